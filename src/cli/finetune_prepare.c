/* Before and after the steps of `danlu finetune`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/finetune.h"
#include "io/json.h"
#include "model/lora_files.h"

enum { MIN_ROWS = 1024, FORGET_WINDOWS = 200 };

static int open_model(struct finetune *f, struct dan_err *e)
{
    struct lm_files *m = &f->m;
    bool all = f->o.lora_rank == 0;
    int rc = lm_open(f->cli, f->o.model, true, m, e);
    if (rc || !all) return rc;
    dan_lm_release(&m->lm);                    /* again, in own f32 memory */
    return dan_lm_load(&m->lm, f->o.model, true, e);
}

static int parse_layers(const char *text, struct dan_lora_opts *o, struct dan_err *e)
{
    long from, to;
    char rest;
    if (!text) return DAN_OK;
    int n = sscanf(text, "%ld-%ld%c", &from, &to, &rest);
    if (n == 1) to = from;
    if (n < 1 || n > 2 || from < 0 || to < from) return dan_fail(e, DAN_EUSAGE, "--lora-layers '%s' is no range: write 4-11, layers count from 0", text);
    o->first_layer = from;
    o->last_layer = to;
    return DAN_OK;
}

static int add_adapter(struct finetune *f, struct dan_err *e)
{
    struct dan_lora_opts o = {.rank = f->o.lora_rank, .alpha = f->o.lora_alpha > 0 ? f->o.lora_alpha : 2 * (double)f->o.lora_rank, .rslora = f->o.rslora,
                              .targets = f->o.lora_targets, .last_layer = -1, .seed = (uint64_t)f->cli->seed};
    if (!f->o.lora_rank) return DAN_OK;
    int rc = parse_layers(f->o.lora_layers, &o, e);
    if (!rc) rc = dan_lora_add(&f->m.lm, &o, e);
    if (!rc) f->m.lm.adapter[f->m.lm.n_adapters - 1].trained = true;
    return rc;
}

/* ---- data ---- */

static void tell_skipped(struct finetune *f, const struct dan_sft_data *s)
{
    int64_t all = 0;
    struct dan_str line = {0};
    for (int k = 0; k < DAN_N_SKIPS; k++) {
        all += s->skipped[k];
        if (s->skipped[k]) dan_str_printf(&line, "%s%lld %s", line.n ? ", " : "", (long long)s->skipped[k], dan_skip_name((enum dan_skip)k));
    }
    if (all) dan_warn(&f->cli->ui, "%lld of %lld rows were skipped: %s\n%.*s", (long long)all, (long long)s->rows, dan_str_c(&line),
                      (int)(s->told.n ? s->told.n - 1 : 0), dan_str_c(&s->told));
    dan_str_release(&line);
}

/* PATH:F, F behind the last colon. */
static int read_replay(struct finetune *f, int64_t longest, struct dan_err *e)
{
    const char *spec = f->o.replay, *colon = spec ? strrchr(spec, ':') : NULL;
    char *end;
    if (!spec) return DAN_OK;
    f->replay_share = colon ? strtod(colon + 1, &end) : 0;
    if (!colon || colon == spec || *end || f->replay_share <= 0 || f->replay_share >= 1)
        return dan_fail(e, DAN_EUSAGE, "--replay '%s' is no PATH:FRACTION with a fraction between 0 and 1: write book.txt:0.1", spec);
    char *path = dan_strdup(spec);
    if (!path) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    path[colon - spec] = 0;
    int rc = dan_sft_data_text((const char *const[]){path}, 1, f->m.tok, longest, 0, &f->replay, e);
    dan_free(path);
    return rc;
}

static int read_data(struct finetune *f, int64_t longest, struct dan_err *e)
{
    struct dan_sft_data_opts o = {.tok = f->m.tok, .chat = &f->chat, .longest = longest, .learn = strcmp(f->o.learn, "last") ? DAN_LEARN_ALL : DAN_LEARN_LAST,
                                  .has_now = true, .now = dan_unix_time()};
    int rc = dan_chat_template_open(&f->chat, f->m.tok, f->o.template, &f->m.prefix, e);
    if (!rc) rc = dan_sft_data_read(f->o.data.v, f->o.data.n, &o, &f->data, e);
    if (rc) return rc;
    tell_skipped(f, &f->data);
    rc = dan_sft_data_hold_out(&f->data, f->o.val_fraction, &f->val, e);
    if (!rc) rc = read_replay(f, longest, e);
    if (!rc && f->o.forget.n) rc = dan_sft_data_text(f->o.forget.v, f->o.forget.n, f->m.tok, longest, FORGET_WINDOWS, &f->forget, e);
    return rc;
}

static int64_t longest_of(const struct dan_sft_data *s, int64_t most)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].n > most) most = s->v[i].n;
    return most;
}

static enum dan_prec precision(const struct finetune *f, uint64_t cpu)
{
    bool fast = cpu & (DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16);
    return !strcmp(f->o.dtype, "bf16") || (!strcmp(f->o.dtype, "auto") && fast) ? DAN_PREC_BF16 : DAN_PREC_F32;
}

static int make_tuner(struct finetune *f, struct dan_err *e)
{
    int64_t longest = longest_of(&f->forget, longest_of(&f->replay, longest_of(&f->val, longest_of(&f->data, 2))));
    int64_t rows = f->o.rows ? f->o.rows : longest > MIN_ROWS ? longest : MIN_ROWS;
    uint64_t mask = dan_isa_mask(f->cli->isa);
    if (rows < longest - 1) return dan_fail(e, DAN_EINVAL, "--rows %lld does not hold the longest dialogue of %lld tokens", (long long)rows, (long long)longest);
    struct dan_tuner_opts o = {.max_rows = rows, .optim = dan_optim_find(f->o.optimizer), .beta1 = f->o.beta1, .beta2 = f->o.beta2, .eps = f->o.eps,
                               .weight_decay = f->o.weight_decay, .clip = f->o.clip, .remat = f->o.remat, .cpu_mask = mask,
                               .prec = precision(f, dan_cpu_features() & mask), .pass = {.fusion = f->o.fusion}};
    int rc = dan_tuner_new(&f->m.lm, &o, f->m.pool, &f->tuner, e);
    if (!rc) rc = dan_sft_init(&f->sft, f->tuner, &f->data, f->replay.n ? &f->replay : NULL, f->replay_share, f->o.batch, rows, (uint64_t)f->cli->seed, e);
    return rc;
}

static void tell(struct finetune *f)
{
    struct dan_ui *ui = &f->cli->ui;
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM];
    dan_say(ui, "model    %s, %s parameters, %s learn%s", f->m.lm.model->name, dan_fmt_count((double)dan_lm_n_params(&f->m.lm), a),
            dan_fmt_count((double)dan_tuner_params(f->tuner), b), f->o.lora_rank ? " (adapter)" : "");
    dan_say(ui, "template %s", f->chat.builtin ? f->chat.builtin : f->o.template ? f->o.template : "the model's own");
    dan_say(ui, "data     %zu sequences, %s tokens, %s of them learnt; %zu held out", f->data.n, dan_fmt_count((double)f->data.ids, a),
            dan_fmt_count((double)f->data.learnt, b), f->val.n);
    if (f->replay.n) dan_say(ui, "replay   %s tokens of text, %g %% of what is learnt", dan_fmt_count((double)f->replay.ids, a), 100 * f->replay_share);
    dan_say(ui, "memory   %s beside the weights of %s", dan_fmt_bytes((double)dan_tuner_bytes(f->tuner), a),
            dan_fmt_bytes((double)dan_store_bytes(f->m.lm.store), c));
}

int finetune_prepare(struct finetune *f, struct dan_err *e)
{
    int rc = dan_fusion_check(f->o.fusion, e);
    if (!rc) rc = open_model(f, e);
    if (rc) return rc;
    int64_t longest = f->o.context ? f->o.context : f->m.lm.cfg.context;
    if (longest > dan_lm_longest(&f->m.lm.cfg))
        return dan_fail(e, DAN_EINVAL, "--context %lld is more than the model's %lld", (long long)longest, (long long)dan_lm_longest(&f->m.lm.cfg));
    rc = read_data(f, longest, e);
    if (!rc) rc = add_adapter(f, e);
    if (!rc) rc = make_tuner(f, e);
    if (rc) return rc;
    f->steps = f->o.steps ? f->o.steps : (int64_t)(f->o.epochs * (double)dan_sft_steps_per_epoch(&f->sft) + 0.5);
    if (f->steps < 1) f->steps = 1;
    tell(f);
    return DAN_OK;
}

static int measure(struct finetune *f, const struct dan_sft_data *s, double **mean, struct dan_err *e)
{
    double loss;
    if (!s->n) return DAN_OK;
    *mean = dan_calloc(s->n, sizeof **mean);
    return *mean ? dan_sft_eval(f->tuner, s, &f->sft.pack, &loss, *mean, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to evaluate");
}

int finetune_measure(struct finetune *f, double **val, double **forget, struct dan_err *e)
{
    int rc = measure(f, &f->val, val, e);
    return rc ? rc : measure(f, &f->forget, forget, e);
}

int finetune_save(struct finetune *f, struct dan_err *e)
{
    struct dan_lm *lm = &f->m.lm;
    int rc = dan_mkdirs(f->o.out, e);
    if (!rc && f->o.lora_rank && !f->o.merge) return dan_lora_save(lm, lm->adapter[lm->n_adapters - 1].name, f->o.out, f->o.model, e);
    if (!rc && f->o.merge) rc = dan_lora_merge(lm, lm->adapter[lm->n_adapters - 1].name, 1, e);
    if (!rc) rc = dan_lm_save(lm, f->o.out, e);
    return rc ? rc : dan_lm_copy_beside(f->o.model, f->o.out, e);
}

static json_t *change_json(const struct dan_change *c)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:I}", "before", c->before, "after", c->after, "change", c->change, "standard_error", c->error, "sequences",
                     (json_int_t)c->n);
}

static void change_line(struct dan_str *out, const char *what, const struct dan_change *c)
{
    dan_str_printf(out, "%-14s %.4f -> %.4f nats per token (%+.4f, 95 %% interval %+.4f to %+.4f, %lld sequences)\n", what, c->before, c->after, c->change,
                   c->change - 1.96 * c->error, c->change + 1.96 * c->error, (long long)c->n);
}

int finetune_report(struct finetune *f, struct dan_err *e)
{
    struct dan_str out = {0};
    struct dan_change val = {0}, forget = {0};
    json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:f,s:f}", "model", f->o.model, "out", f->o.out, "steps", (json_int_t)dan_tuner_steps(f->tuner), "num_tokens",
                          (json_int_t)f->tokens, "loss", f->last_loss, "tokens_per_second", (double)f->tokens / f->train_seconds);
    if (f->val.n) {
        val = dan_paired_change(&f->val, f->val_before, f->val_after);
        change_line(&out, "held-out loss", &val);
        json_object_set_new(j, "eval_loss", change_json(&val));
    }
    if (f->forget.n) {
        forget = dan_paired_change(&f->forget, f->forget_before, f->forget_after);
        change_line(&out, "forgetting", &forget);
        json_object_set_new(j, "forgetting", change_json(&forget));
    }
    int rc = j ? dan_json_write(finetune_path(f, "report.json"), j, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for the report");
    if (!rc) rc = f->cli->json ? dan_out_json(&f->cli->ui, json_incref(j), e) : dan_out(&f->cli->ui, dan_str_c(&out), out.n, e);
    if (!rc) dan_say(&f->cli->ui, "wrote '%s'; try it: danlu chat %s", f->o.out, f->o.out);
    json_decref(j);
    dan_str_release(&out);
    return rc;
}

void finetune_release(struct finetune *f)
{
    dan_sft_release(&f->sft);
    dan_tuner_free(f->tuner);
    dan_sft_data_release(&f->data);
    dan_sft_data_release(&f->val);
    dan_sft_data_release(&f->replay);
    dan_sft_data_release(&f->forget);
    dan_chat_template_release(&f->chat);
    dan_free(f->val_before);
    dan_free(f->val_after);
    dan_free(f->forget_before);
    dan_free(f->forget_after);
    lm_close(&f->m);
}
