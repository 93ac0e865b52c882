/* danlu dpo: learning from preferences, by DPO and its kin. */
#include <stdio.h>
#include <string.h>
#include "align/pairs.h"
#include "align/reward_eval.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/dpo.h"
#include "cli/report_lines.h"

/* The losses on pairs, then kto. */
static const char *loss_name(size_t i)
{
    size_t n = 0;
    while (dan_pref_losses[n]) n++;
    return i < n ? dan_pref_losses[i]->name : i == n ? "kto" : NULL;
}

#define AT(f) offsetof(struct dpo_opts, f)
static const struct dan_opt options[] = {
    TUNE_DATA_OPTIONS(struct dpo_opts, "preference pairs: .jsonl or .json (prompt, chosen, rejected; HH; ShareGPT with chosen and rejected; completions with ranks); for kto answers with label or kto_tag"),
    {.name = "loss", .type = 'e', .offset = AT(loss), .dflt = "sigmoid", .choice_at = loss_name, .alias = "loss-type|pref-loss", .help = "sigmoid is DPO"},
    {.name = "beta", .type = 'f', .offset = AT(beta), .dflt = "0", .meta = "B", .min = 0, .max = 1000, .alias = "pref-beta", .help = "strength (0: the loss's usual one)"},
    {.name = "gamma", .type = 'f', .offset = AT(gamma), .dflt = "-1", .meta = "G", .min = -1, .max = 1000, .alias = "simpo-gamma", .help = "simpo: margin (-1: the usual one)"},
    {.name = "label-smoothing", .type = 'f', .offset = AT(smoothing), .dflt = "-1", .meta = "P", .min = -1, .max = 0.49, .help = "cdpo, robust: share of flipped labels (-1: the usual one)"},
    {.name = "lambda", .type = 'f', .offset = AT(lambda), .dflt = "-1", .meta = "L", .min = -1, .max = 1000, .help = "orpo: weight of the odds ratio (-1: the usual one)"},
    {.name = "nll", .type = 'f', .offset = AT(nll), .dflt = "0", .meta = "W", .min = 0, .max = 1000, .alias = "pref-ftx|rpo-alpha",
     .help = "weight of the chosen answer's own loss (per token) beside it: keeps its probability from falling"},
    {.name = "desirable-weight", .type = 'f', .offset = AT(desirable), .dflt = "0", .meta = "W", .min = 0, .max = 1000, .help = "kto: of desirable answers (0: so that both kinds weigh alike)"},
    {.name = "undesirable-weight", .type = 'f', .offset = AT(undesirable), .dflt = "0", .meta = "W", .min = 0, .max = 1000, .help = "kto: of the others"},
    TUNE_SAMPLES_OPTION(struct dpo_opts, samples),
    TUNE_OPTIM_OPTIONS(struct dpo_opts, "1", "peak learning rate (0: 5e-5 for adapters, 1e-6 for all weights)"),
    TUNE_LORA_OPTIONS(struct dpo_opts),
    TUNE_MACHINE_OPTIONS(struct dpo_opts),
    TUNE_RUN_OPTIONS(struct dpo_opts),
    {.name = NULL}};

struct dpo {
    struct tune t;
    const struct dpo_opts *o;
    struct dan_sft_data data, val;
    struct dan_prefs prefs;
    struct dan_pref_stats before, after, last;
    double *val_ref;
    int64_t tokens;
    double  seconds;
    struct tune_part part;
    struct tune_samples *samples;
};

static struct dan_pref_opts pref_opts(const struct dpo_opts *o, const struct dan_pref_loss *loss)
{
    struct dan_pref_opts p = loss->usual;
    if (o->beta > 0) p.beta = o->beta;
    if (o->gamma >= 0) p.gamma = o->gamma;
    if (o->smoothing >= 0) p.smoothing = o->smoothing;
    if (o->lambda >= 0) p.lambda = o->lambda;
    p.nll = o->nll;
    return p;
}

static int score_held_out(struct dpo *d, struct dan_err *e)
{
    const struct dan_sft_row **row = dan_malloc((d->val.n + 1) * sizeof *row);
    d->val_ref = dan_calloc(d->val.n + 1, sizeof *d->val_ref);
    int rc = row && d->val_ref ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t i = 0; i < d->val.n && !rc; i++) row[i] = &d->val.v[i];
    if (!rc && d->val.n) rc = dan_rows_logp(d->t.tuner, row, d->val.n, &d->prefs.pack, d->val_ref, e);
    dan_free(row);
    return rc;
}

void dpo_plan(struct tune *t, int64_t n)
{
    int64_t epoch = (n + t->o.batch - 1) / t->o.batch;
    t->lr = t->o.lr > 0 ? t->o.lr : t->o.lora_rank ? 5e-5 : 1e-6;
    t->steps = t->o.steps ? t->o.steps : (int64_t)(t->o.epochs * (double)epoch + 0.5);
    if (t->steps < 1) t->steps = 1;
}

int dpo_begin(struct tune *t, struct tune_part *part, int64_t *tokens, double *seconds, struct dan_err *e)
{
    json_int_t n = 0;
    *part = (struct tune_part){t->tuner, &t->m.lm, ""};
    int rc = tune_begin(t, part, 1, e);
    json_unpack(t->extra, "{s:I,s:f}", "num_tokens", &n, "seconds", seconds);
    *tokens = n;
    return rc;
}

json_t *dpo_progress(int64_t tokens, double seconds) { return json_pack("{s:I,s:f}", "num_tokens", (json_int_t)tokens, "seconds", seconds); }

int dpo_stopped(struct tune *t, int64_t tokens, double seconds, struct dan_err *e)
{
    int64_t done = dan_tuner_steps(t->tuner);
    return t->cli->stop && done < t->steps ? tune_interrupted(t, done, dpo_progress(tokens, seconds), e) : DAN_OK;
}

static int prepare(struct dpo *d, struct dan_err *e)
{
    const struct tune_opts *o = &d->t.o;
    const struct dan_pref_loss *loss = dan_pref_find(d->o->loss);
    struct dan_pref_opts po = pref_opts(d->o, loss);
    char a[DAN_NUM];
    int rc = tune_open(&d->t, e);
    struct dan_sft_data_opts so = {.tok = d->t.m.tok, .chat = &d->t.chat, .longest = d->t.longest, .has_now = true, .now = d->t.now};
    if (!rc) rc = dan_pairs_read(o->data.v, o->data.n, &so, &d->data, e);
    if (rc) return rc;
    report_skipped_rows(&d->t.cli->ui, &d->data, NULL);
    rc = dan_pairs_hold_out(&d->data, o->val_fraction, &d->val, e);
    tune_fingerprint(&d->t, &d->data);
    if (!rc) rc = tune_start(&d->t, dan_sft_data_longest(&d->val, dan_sft_data_longest(&d->data, 2)), e);
    if (rc) return rc;
    tune_tell_model(&d->t);
    dan_say(&d->t.cli->ui, "data     %zu pairs, %s tokens; %zu held out", d->data.n / 2, dan_fmt_count((double)d->data.ids, a), d->val.n / 2);
    rc = dan_prefs_init(&d->prefs, d->t.tuner, &d->data, loss, &po, o->batch, d->t.rows, (uint64_t)d->t.cli->seed, e);
    if (!rc) rc = score_held_out(d, e);
    if (!rc && d->val.n) rc = dan_prefs_eval(&d->prefs, &d->val, d->val_ref, &d->before, e);
    dpo_plan(&d->t, (int64_t)d->data.n / 2);
    if (!rc) rc = tune_samples_before(&d->t, &d->val, 2, d->o->samples, &d->samples, e);
    return rc ? rc : dpo_begin(&d->t, &d->part, &d->tokens, &d->seconds, e);
}

/* TRL's names. */
static json_t *metrics(const struct dan_pref_stats *s)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "loss", s->loss, "rewards/chosen", s->reward[0], "rewards/rejected", s->reward[1], "rewards/margins",
                     s->margin, "rewards/accuracies", s->accuracy, "logps/chosen", s->logp[0], "logps/rejected", s->logp[1]);
}

static int loop(struct dpo *d, struct dan_err *e)
{
    struct dan_cli *cli = d->t.cli;
    struct dan_bar bar;
    double start = dan_now(), norm = 0;
    int rc = DAN_OK;
    dan_bar_start(&bar, &cli->ui, "dpo", "step", d->t.first_step, d->t.steps);
    for (int64_t step = d->t.first_step; step < d->t.steps && !rc && !cli->stop; step++) {
        double lr = tune_lr(&d->t, step);
        rc = dan_prefs_step(&d->prefs, lr, &d->last, &norm, e);
        if (rc) break;
        d->tokens += d->last.ids;
        json_t *j = metrics(&d->last);
        json_object_set_new(j, "step", json_integer(step + 1));
        json_object_set_new(j, "learning_rate", json_real(lr));
        json_object_set_new(j, "grad_norm", json_real(norm));
        json_object_set_new(j, "num_tokens", json_integer(d->tokens));
        rc = tune_log(&d->t, j, e);
        if (!rc) rc = tune_step_done(&d->t, step + 1, dpo_progress(d->tokens, d->seconds + dan_now() - start), e);
        dan_bar_update(&bar, step + 1, "loss %.4f  accuracy %.2f", d->last.loss, d->last.accuracy);
    }
    dan_bar_finish(&bar);
    d->seconds += dan_now() - start;
    return rc ? rc : dpo_stopped(&d->t, d->tokens, d->seconds, e);
}

static int report(struct dpo *d, struct dan_err *e)
{
    struct dan_str out = {0};
    double low = 0, high = 1, n = (double)d->after.pairs;
    if (n > 0) dan_wilson(d->after.accuracy * n, n, &low, &high);
    json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:f,s:o}", "model", d->t.o.model, "out", d->t.o.out, "loss_type", d->o->loss, "steps",
                          (json_int_t)dan_tuner_steps(d->t.tuner), "tokens_per_second", d->seconds > 0 ? (double)d->tokens / d->seconds : 0, "train", metrics(&d->last));
    if (d->val.n) {
        json_object_set_new(j, "eval_before", metrics(&d->before));
        json_object_set_new(j, "eval", metrics(&d->after));
        dan_str_printf(&out, "held-out pairs  loss %.4f -> %.4f, margin %+.4f, accuracy %.3f (95 %% interval %.3f to %.3f, %lld pairs)\n", d->before.loss,
                       d->after.loss, d->after.margin, d->after.accuracy, low, high, (long long)d->after.pairs);
        dan_str_printf(&out, "log-probability of the answers  chosen %.2f -> %.2f, rejected %.2f -> %.2f%s\n", d->before.logp[0], d->after.logp[0],
                       d->before.logp[1], d->after.logp[1],
                       d->after.logp[0] < d->before.logp[0] && d->after.logp[1] < d->before.logp[1] ? " (both fall: the loss asks for their difference alone)" : "");
    }
    int rc = j ? tune_samples_report(d->samples, j, &out, e) : DAN_OK;
    if (!rc) rc = tune_report(&d->t, j, &out, e);
    else json_decref(j);
    dan_str_release(&out);
    return rc;
}

static int work(struct dpo *d, struct dan_err *e)
{
    int rc = prepare(d, e);
    if (!rc) rc = loop(d, e);
    if (!rc && d->val.n) rc = dan_prefs_eval(&d->prefs, &d->val, d->val_ref, &d->after, e);
    if (!rc) rc = tune_samples_after(d->samples, e);
    if (!rc) rc = tune_save(&d->t, e);
    return rc ? rc : report(d, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dpo_opts o = *(const struct dpo_opts *)opts;
    struct dpo *d = dan_arena_alloc(cli->arena, sizeof *d);
    if (!d) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    int rc = tune_recipe(cli, &o, &o.tune, e);
    if (rc) return rc;
    if (!strcmp(o.loss, "kto")) return dpo_kto(cli, &o, e);
    *d = (struct dpo){.t = {.o = o.tune, .cli = cli, .all = &o}, .o = &o};
    rc = work(d, e);
    tune_samples_free(d->samples);
    dan_prefs_release(&d->prefs);
    dan_sft_data_release(&d->data);
    dan_sft_data_release(&d->val);
    dan_free(d->val_ref);
    tune_release(&d->t);
    return rc;
}

const struct dan_cmd dan_cmd_dpo = {
    .name = "dpo", .doc = "learn from preferences: DPO, IPO, SimPO, ORPO, KTO and others", .group = DAN_GROUP_ALIGN, .rank = 2,
    .about = "Pairs of answers to one prompt, of which one is preferred. The reference is the model as it is when the command starts; its log-probabilities\n"
             "are computed once. Losses that need none (simpo, orpo, cpo) do without. Of a pair that is too long nothing is cut: it is skipped and counted.",
    .example = "danlu dpo runs/chat --data pairs.jsonl --lora-rank 8 --out runs/chat-dpo",
    .opts = options, .opts_bytes = sizeof(struct dpo_opts), .run = run};
