#include "cli/page.h"
#include "cli/tune.h"
#include <stdio.h>
#include <string.h>
#include "align/sft_data.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/sys.h"
#include "exec/precision.h"
#include "io/json.h"
#include "model/lora_files.h"
#include "model/score.h"

enum { MIN_ROWS = 1024 };

const char *tune_optim_name(size_t i) { return dan_optims[i] ? dan_optims[i]->name : NULL; }
const char *tune_schedule_name(size_t i) { return dan_schedules[i] ? dan_schedules[i]->name : NULL; }

static int out_path(const struct tune *t, const char *name, struct dan_str *path, struct dan_err *e)
{
    dan_path_join(path, t->o.out, name);
    return path->failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for a path") : DAN_OK;
}

static int check_out(const struct tune *t, struct dan_err *e)
{
    static const char *const marks[] = {"adapter_config.json", "model.safetensors", "model.safetensors.index.json", "log.jsonl", "checkpoints"};
    int rc = DAN_OK;
    for (size_t i = 0; i < sizeof marks / sizeof *marks && !rc && !t->o.resume; i++) {
        struct dan_str path = {0};
        rc = out_path(t, marks[i], &path, e);
        if (!rc && dan_path_exists(dan_str_c(&path)))
            rc = dan_fail(e, DAN_EINVAL, "'%s' already holds a model or a run (%s); choose another --out, or go on with --resume", t->o.out, marks[i]);
        dan_str_release(&path);
    }
    if (!rc && t->o.merge && !t->o.lora_rank) rc = dan_fail(e, DAN_EUSAGE, "--merge needs --lora-rank: without an adapter there is nothing to merge");
    return rc;
}

/* Matrices in bf16, none in a format of fewer bits: a product with such a matrix rounds its other operand, too. */
static bool rounds_products(const struct dan_lm *lm)
{
    bool bf16 = false;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_dtype *d = dan_store_at(lm->store, i)->dtype;
        if (d != &dan_dtype_f32 && d != &dan_dtype_bf16 && d != &dan_dtype_f16) return false;
        bf16 = bf16 || d == &dan_dtype_bf16;
    }
    return bf16;
}

/* What an adapter names as its base has to be a model. */
static int check_base(const struct tune *t, struct dan_err *e)
{
    if (!t->o.lora_rank || t->o.merge || !dan_lora_is(t->o.model)) return DAN_OK;
    return dan_fail(e, DAN_EUSAGE, "'%s' is an adapter; merge it first: danlu finetune merge %s --out DIR", t->o.model, t->o.model);
}

static int open_model(struct tune *t, struct dan_err *e)
{
    struct lm_files *m = &t->m;
    int rc = check_base(t, e);
    if (!rc) rc = lm_open(t->cli, t->o.model, true, m, e);
    if (rc) return rc;
    bool written = t->o.lora_rank == 0 || t->o.merge || dan_qat_on(&t->qat) || (!strcmp(t->o.dtype, "f32") && rounds_products(&m->lm));
    if (written) rc = lm_reload_own(m, t->o.model, e);
    return rc ? rc : tune_quantise_base(t, e);
}

/* A turn that ends with nothing that is learnt never ends.  A template that cannot be used is none for texts; dialogues are refused by it, row by row. */
static int check_template(struct tune *t, struct dan_err *e)
{
    struct dan_chat_traits traits = {0};
    struct dan_err why = {0};
    int rc = dan_chat_traits_of(&t->chat, true, t->now, &traits, &why);
    if (rc == DAN_ENOMEM) return dan_fail(e, rc, "%s", why.msg);
    if (rc) dan_warn(&t->cli->ui, "the chat template cannot be used, texts can: %s", why.msg);
    else if (!traits.stop_trained && t->head == DAN_HEAD_LM)         /* answers that are scored get eos where they have no end */
        dan_warn(&t->cli->ui, "the template '%s' has no end of turn that is learnt: the model will not learn to stop; --template alpaca or zephyr ends turns with eos",
                 t->chat.builtin ? t->chat.builtin : t->o.template ? t->o.template : "the model's own");
    dan_chat_traits_release(&traits);
    return DAN_OK;
}

int tune_open(struct tune *t, struct dan_err *e)
{
    int rc = check_out(t, e);
    if (!rc && t->o.resume && dan_path_is_dir(t->o.out)) rc = dan_lock_dir(t->o.out, &t->lock, e);     /* what is gone on with stays as it is */
    if (!rc) rc = tune_find_checkpoint(t, e);
    if (!rc) rc = tune_check_adapters(t, e);
    if (!rc) rc = dan_fusion_check(t->o.fusion, e);
    if (!rc) rc = open_model(t, e);
    if (rc) return rc;
    t->longest = t->o.context ? t->o.context : t->m.lm.cfg.context;
    if (t->longest > dan_lm_longest(&t->m.lm.cfg))
        return dan_fail(e, DAN_EINVAL, "--context %lld is more than the model's %lld", (long long)t->longest, (long long)dan_lm_longest(&t->m.lm.cfg));
    rc = dan_chat_template_open(&t->chat, t->m.tok, t->o.template, &t->m.prefix, e);
    t->keeps_template = t->o.template || t->m.own_template;
    if (!rc && t->keeps_template) rc = dan_chat_template_settle(&t->chat, e);
    return rc || t->no_template ? rc : check_template(t, e);
}

static int parse_layers(const char *text, int64_t layers, struct dan_lora_opts *o, struct dan_err *e)
{
    long from, to;
    char rest;
    if (!text) return DAN_OK;
    int n = sscanf(text, "%ld-%ld%c", &from, &to, &rest);
    if (n == 1) to = from;
    if (n < 1 || n > 2 || from < 0 || to < from) return dan_fail(e, DAN_EUSAGE, "--lora-layers '%s' is no range: write 4-11, layers count from 0", text);
    if (to >= layers) return dan_fail(e, DAN_EUSAGE, "--lora-layers '%s' leaves the model: its layers are 0 to %lld", text, (long long)layers - 1);
    o->first_layer = from;
    o->last_layer = to;
    return DAN_OK;
}

int tune_add_adapter(const struct tune *t, struct dan_lm *lm, const char *name, struct dan_err *e)
{
    struct dan_lora_opts o = {.name = name, .rank = t->o.lora_rank, .alpha = t->o.lora_alpha > 0 ? t->o.lora_alpha : 2 * (double)t->o.lora_rank, .rslora = t->o.rslora,
                              .targets = t->o.lora_targets, .last_layer = -1, .seed = (uint64_t)t->cli->seed, .dora = t->o.dora};
    if (!t->o.lora_rank) return DAN_OK;
    int rc = parse_layers(t->o.lora_layers, t->m.lm.cfg.layers, &o, e);      /* the policy's; a critic of fewer layers takes what it has of them */
    if (!rc) rc = dan_lora_add(lm, &o, e);
    if (!rc) lm->adapter[lm->n_adapters - 1].trained = true;
    return rc;
}

/* bf16 would round what --qat has rounded already. */
enum dan_prec tune_precision(const struct tune *t)
{
    bool rounds = dan_qat_on(&t->qat) && !strcmp(t->o.dtype, "auto");
    return rounds ? DAN_PREC_F32 : dan_prec_of(t->o.dtype, dan_isa_mask(t->cli->isa));
}

struct dan_tuner_opts tune_tuner_opts(const struct tune *t)
{
    return (struct dan_tuner_opts){.max_rows = t->rows, .head = t->head, .optim = dan_optim_find(t->o.optimizer), .beta1 = t->o.beta1, .beta2 = t->o.beta2, .eps = t->o.eps,
                                   .weight_decay = t->o.weight_decay, .clip = t->o.clip, .ema = t->ema, .temperature = t->temperature, .remat = t->o.remat, .cpu_mask = dan_isa_mask(t->cli->isa),
                                   .prec = tune_precision(t), .pass = {.fusion = t->o.fusion}, .qat = t->qat, .lora_dropout = t->o.lora_dropout,
                                   .neftune = t->o.neftune, .lora_plus = t->o.lora_plus, .seed = (uint64_t)t->cli->seed};
}

/* 0.02: transformers' initialisation of score.weight. */
static int add_score(const struct tune *t, struct dan_err *e)
{
    struct dan_lm *lm = (struct dan_lm *)(uintptr_t)&t->m.lm;
    const char *adapter = t->o.lora_rank ? lm->adapter[lm->n_adapters - 1].name : NULL;
    struct dan_score_opts o = {.adapter = adapter, .std = 0.02, .seed = (uint64_t)t->cli->seed, .like = adapter && dan_lm_score_of(lm, NULL) ? "" : NULL};
    return t->head != DAN_HEAD_SCORE || (!adapter && dan_lm_has_score(lm)) ? DAN_OK : dan_lm_add_score(lm, &o, e);
}

int tune_start(struct tune *t, int64_t needed, struct dan_err *e)
{
    t->rows = t->o.rows ? t->o.rows : needed > MIN_ROWS ? needed : MIN_ROWS;
    if (t->rows < needed - 1)
        return dan_fail(e, DAN_EINVAL, "--rows %lld does not hold the longest dialogue of %lld tokens", (long long)t->rows, (long long)needed);
    struct dan_tuner_opts o = tune_tuner_opts(t);
    tune_fingerprint_model(t);
    int rc = tune_add_adapter(t, &t->m.lm, NULL, e);
    if (!rc) rc = add_score(t, e);
    if (!rc) rc = dan_tuner_new(&t->m.lm, &o, t->m.pool, &t->tuner, e);
    if (!rc) rc = dan_mkdirs(t->o.out, e);
    if (!rc && !t->lock) rc = dan_lock_dir(t->o.out, &t->lock, e);
    return rc ? rc : check_out(t, e);          /* another may have been here since tune_open looked */
}

double tune_lr(const struct tune *t, int64_t step)
{
    struct dan_schedule_args at = {t->lr, t->o.min_lr >= 0 ? t->o.min_lr : t->lr / 10, t->o.warmup, t->steps, 0.2};
    return dan_schedule_at(dan_schedule_find(t->o.schedule), &at, step);
}

int tune_log(struct tune *t, json_t *j, struct dan_err *e)
{
    struct dan_str path = {0}, line = {0};
    int bad = !j || dan_json_text(j, &line);
    tune_runs_line(t, j);
    json_decref(j);
    dan_str_putc(&line, '\n');
    int rc = bad || line.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the log") : out_path(t, "log.jsonl", &path, e);
    if (!rc) rc = dan_append_file(dan_str_c(&path), dan_str_c(&line), line.n, e);
    dan_str_release(&path);
    dan_str_release(&line);
    return rc;
}

/* A critic's may lie over the same base, at rest (danlu ppo). */
static const char *trained_adapter(const struct dan_lm *lm)
{
    for (int32_t i = lm->n_adapters - 1; i >= 0; i--)
        if (lm->adapter[i].trained) return lm->adapter[i].name;
    return NULL;
}

int tune_copy_beside(struct tune *t, const char *to, struct dan_err *e)
{
    int rc = lm_copy_beside(t->cli, &t->m.lm, t->m.dir, to, e);
    return rc || !t->keeps_template ? rc : dan_chat_template_save(&t->chat, to, e);
}

int tune_save(struct tune *t, struct dan_err *e)
{
    struct dan_lm *lm = &t->m.lm;
    const char *name = t->o.lora_rank ? trained_adapter(lm) : NULL;
    int rc = dan_mkdirs(t->o.out, e);
    if (!rc && dan_qat_on(&t->qat)) rc = tune_save_integers(t, e);
    if (!rc && name && !t->o.merge) {
        rc = dan_lora_save(lm, name, t->o.out, t->o.model, e);
        if (!rc && t->keeps_template) rc = dan_chat_template_save(&t->chat, t->o.out, e);
        return rc || !t->o.qlora ? rc : dan_lora_save_base_format(t->o.out, t->o.qlora, e);
    }
    if (!rc && name) rc = dan_lora_merge(lm, name, 1, e);
    if (!rc) rc = dan_lm_save(lm, t->o.out, e);
    return rc ? rc : tune_copy_beside(t, t->o.out, e);
}

static int write_page(const struct tune *t, const struct dan_str *text, const json_t *report, struct dan_err *e)
{
    struct dan_str out = {0}, title = {0};
    dan_str_printf(&title, "danlu %s %s", t->cli->path, t->o.model ? t->o.model : t->o.out);
    page_begin(&out, dan_str_c(&title));
    page_text(&out, dan_str_c(text), text->n);
    page_samples(&out, json_object_get(report, "samples"));
    int rc = page_calibration(&out, dan_json_at(report, "eval.calibration"), e);
    if (!rc) rc = page_curves(&out, t->o.out, e);
    if (!rc) rc = page_write(&out, t->o.out, e);
    dan_str_release(&out);
    dan_str_release(&title);
    return rc;
}

int tune_report(struct tune *t, json_t *j, const struct dan_str *text, struct dan_err *e)
{
    struct dan_str path = {0};
    tune_report_adapters(t, j);
    int rc = j ? out_path(t, "report.json", &path, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for the report");
    if (!rc) rc = dan_json_write(dan_str_c(&path), j, e);
    if (!rc) rc = write_page(t, text, j, e);
    tune_runs_line(t, j);
    if (!rc) tune_runs_end(t, "finished");
    if (!rc) rc = t->cli->json ? dan_out_json(&t->cli->ui, json_incref(j), e) : dan_out(&t->cli->ui, dan_str_c(text), text->n, e);
    if (!rc) dan_say(&t->cli->ui, "wrote '%s'; try it: danlu %s %s", t->o.out, t->try_it ? t->try_it : "chat", t->o.out);
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

void tune_release(struct tune *t)
{
    tune_runs_end(t, t->cli->stop ? "interrupted" : "failed");
    tune_resume_release(t);
    dan_tuner_free(t->tuner);
    dan_chat_template_release(&t->chat);
    lm_close(&t->m);
    dan_unlock_dir(&t->lock);
}

void tune_tell_model(struct tune *t)
{
    struct dan_ui *ui = &t->cli->ui;
    char a[DAN_NUM], b[DAN_NUM];
    dan_say(ui, "model    %s, %s parameters, %s learn%s", t->m.lm.model->name, dan_fmt_count((double)dan_lm_n_params(&t->m.lm), a),
            dan_fmt_count((double)dan_tuner_params(t->tuner), b), t->o.lora_rank ? " (adapter)" : "");
    dan_say(ui, "template %s", t->chat.builtin ? t->chat.builtin : t->o.template ? t->o.template : "the model's own");
    dan_say(ui, "memory   %s beside the weights of %s", dan_fmt_bytes((double)dan_tuner_bytes(t->tuner), a),
            dan_fmt_bytes((double)dan_store_bytes(t->m.lm.store), b));
    tune_tell_adapters(t);
}
