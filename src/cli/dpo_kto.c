/* danlu dpo --loss kto: answers that are desirable or not. */
#include <string.h>
#include "align/kto.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/dpo.h"
#include "cli/report_lines.h"

struct kto {
    struct tune t;
    struct dan_sft_data data, val;
    struct dan_kto_run run;
    struct dan_kto_stats before, after, last;
    double *val_ref, seconds;
    int64_t tokens;
    struct tune_part part;
    struct tune_samples *samples;
};

static int score_held_out(struct kto *k, struct dan_err *e)
{
    const struct dan_sft_row **row = dan_malloc((k->val.n + 1) * sizeof *row);
    k->val_ref = dan_calloc(k->val.n + 1, sizeof *k->val_ref);
    int rc = row && k->val_ref ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t i = 0; i < k->val.n && !rc; i++) row[i] = &k->val.v[i];
    if (!rc && k->val.n) rc = dan_rows_logp(k->t.tuner, row, k->val.n, &k->run.pack, k->val_ref, e);
    dan_free(row);
    return rc;
}

static int prepare(struct kto *k, const struct dpo_opts *o, struct dan_err *e)
{
    const struct tune_opts *to = &k->t.o;
    char a[DAN_NUM];
    int rc = tune_open(&k->t, e);
    struct dan_sft_data_opts so = {.tok = k->t.m.tok, .chat = &k->t.chat, .longest = k->t.longest, .has_now = true, .now = k->t.now};
    if (!rc) rc = dan_labelled_read(to->data.v, to->data.n, &so, &k->data, e);
    if (rc) return rc;
    report_skipped_rows(&k->t.cli->ui, &k->data, NULL);
    rc = dan_sft_data_hold_out(&k->data, to->val_fraction, &k->val, e);
    tune_fingerprint(&k->t, &k->data);
    if (!rc) rc = tune_start(&k->t, dan_sft_data_longest(&k->val, dan_sft_data_longest(&k->data, 2)), e);
    if (rc) return rc;
    tune_tell_model(&k->t);
    dan_say(&k->t.cli->ui, "data     %zu labelled answers, %s tokens; %zu held out", k->data.n, dan_fmt_count((double)k->data.ids, a), k->val.n);
    rc = dan_kto_init(&k->run, k->t.tuner, &k->data, o->beta > 0 ? o->beta : 0.1, (const double[]){o->desirable, o->undesirable}, to->batch, k->t.rows,
                      (uint64_t)k->t.cli->seed, e);
    if (!rc) rc = score_held_out(k, e);
    if (!rc && k->val.n) rc = dan_kto_eval(&k->run, &k->val, k->val_ref, &k->before, e);
    dpo_plan(&k->t, (int64_t)k->data.n);
    if (!rc) rc = tune_samples_before(&k->t, &k->val, 1, o->samples, &k->samples, e);
    return rc ? rc : dpo_begin(&k->t, &k->part, &k->tokens, &k->seconds, e);
}

/* TRL's names. */
static json_t *metrics(const struct dan_kto_stats *s)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "loss", s->loss, "kl", s->z, "rewards/chosen", s->reward[0], "rewards/rejected", s->reward[1], "rewards/margins",
                     s->reward[0] - s->reward[1]);
}

static int loop(struct kto *k, struct dan_err *e)
{
    struct dan_cli *cli = k->t.cli;
    struct dan_bar bar;
    double start = dan_now(), norm = 0;
    int rc = DAN_OK;
    dan_bar_start(&bar, &cli->ui, "kto", "step", k->t.first_step, k->t.steps);
    for (int64_t step = k->t.first_step; step < k->t.steps && !rc && !cli->stop; step++) {
        double lr = tune_lr(&k->t, step);
        rc = dan_kto_step(&k->run, lr, &k->last, &norm, e);
        if (rc) break;
        k->tokens += k->last.ids;
        json_t *j = metrics(&k->last);
        json_object_set_new(j, "step", json_integer(step + 1));
        json_object_set_new(j, "learning_rate", json_real(lr));
        json_object_set_new(j, "grad_norm", json_real(norm));
        json_object_set_new(j, "num_tokens", json_integer(k->tokens));
        rc = tune_log(&k->t, j, e);
        if (!rc) rc = tune_step_done(&k->t, step + 1, dpo_progress(k->tokens, k->seconds + dan_now() - start), e);
        dan_bar_update(&bar, step + 1, "loss %.4f  kl %.3f", k->last.loss, k->last.z);
    }
    dan_bar_finish(&bar);
    k->seconds += dan_now() - start;
    return rc ? rc : dpo_stopped(&k->t, k->tokens, k->seconds, e);
}

static int report(struct kto *k, struct dan_err *e)
{
    struct dan_str out = {0};
    json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:f,s:o}", "model", k->t.o.model, "out", k->t.o.out, "loss_type", "kto", "steps",
                          (json_int_t)dan_tuner_steps(k->t.tuner), "tokens_per_second", k->seconds > 0 ? (double)k->tokens / k->seconds : 0, "train", metrics(&k->last));
    if (k->val.n) {
        json_object_set_new(j, "eval_before", metrics(&k->before));
        json_object_set_new(j, "eval", metrics(&k->after));
        dan_str_printf(&out, "held-out answers  loss %.4f -> %.4f; mean reward of desirable ones %+.4f (%lld), of others %+.4f (%lld)\n", k->before.loss,
                       k->after.loss, k->after.reward[0], (long long)k->after.rows[0], k->after.reward[1], (long long)k->after.rows[1]);
    }
    int rc = j ? tune_samples_report(k->samples, j, &out, e) : DAN_OK;
    if (!rc) rc = tune_report(&k->t, j, &out, e);
    else json_decref(j);
    dan_str_release(&out);
    return rc;
}

static int work(struct kto *k, const struct dpo_opts *o, struct dan_err *e)
{
    int rc = prepare(k, o, e);
    if (!rc) rc = loop(k, e);
    if (!rc && k->val.n) rc = dan_kto_eval(&k->run, &k->val, k->val_ref, &k->after, e);
    if (!rc) rc = tune_samples_after(k->samples, e);
    if (!rc) rc = tune_save(&k->t, e);
    return rc ? rc : report(k, e);
}

int dpo_kto(struct dan_cli *cli, const struct dpo_opts *o, struct dan_err *e)
{
    struct kto *k = dan_arena_alloc(cli->arena, sizeof *k);
    if (!k) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    *k = (struct kto){.t = {.o = o->tune, .cli = cli, .all = o}};
    int rc = work(k, o, e);
    tune_samples_free(k->samples);
    dan_kto_release(&k->run);
    dan_sft_data_release(&k->data);
    dan_sft_data_release(&k->val);
    dan_free(k->val_ref);
    tune_release(&k->t);
    return rc;
}
