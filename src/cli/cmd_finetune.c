/* danlu finetune: supervised fine-tuning, of all weights or through a low-rank adapter. */
#include <stdlib.h>
#include <string.h>
#include "align/sft.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/finetune.h"
#include "cli/qat_options.h"
#include "cli/report_lines.h"
#include "cli/tune_samples.h"

enum { FORGET_WINDOWS = 200 };

struct finetune_opts { struct tune_opts tune; const char *learn, *replay; struct qat_cli qat; int64_t samples; struct dan_strings forget; };

#define AT(f) offsetof(struct finetune_opts, f)
static const struct dan_opt options[] = {
    TUNE_DATA_OPTIONS(struct finetune_opts, "dialogues: .jsonl or .json files or folders (messages, ShareGPT, Alpaca, prompt + completion, text)"),
    {.name = "learn", .type = 'e', .offset = AT(learn), .dflt = "all", .choices = "all|last", .help = "turns of the assistant that are learnt: all, or each dialogue's last"},
    {.name = "replay", .type = 's', .offset = AT(replay), .meta = "PATH:F", .help = "plain text that is mixed in as fraction F of the learnt tokens, against forgetting"},
    {.name = "forget-eval", .type = 'S', .offset = AT(forget), .meta = "PATH", .help = "plain text whose loss is measured before and after"},
    TUNE_SAMPLES_OPTION(struct finetune_opts, samples),
    TUNE_OPTIM_OPTIONS(struct finetune_opts, "3", "peak learning rate (0: 2e-4 for adapters, 2e-5 for all weights)"),
    TUNE_LORA_OPTIONS(struct finetune_opts),
    TUNE_NOISE_OPTIONS(struct finetune_opts),
    {.name = "qat", .type = 'e', .offset = AT(qat.scheme), .dflt = "off", .choices = "off|w8a8|w8|w4a8|w4|w3|w2", .section = "Quantisation while training",
     .help = "bits of weights and inputs that products train with, adapters inside; OUT/quantised has the integers"},
    DAN_QAT_METHOD_OPTIONS(struct finetune_opts, qat),
    TUNE_MACHINE_OPTIONS(struct finetune_opts),
    TUNE_RUN_OPTIONS(struct finetune_opts),
    {.name = NULL}};

struct finetune {
    struct tune t;
    const struct finetune_opts *o;
    struct dan_sft_data data, val, replay, forget;
    double  replay_share;
    struct dan_sft sft;
    double *val_before, *val_after, *forget_before, *forget_after;   /* mean loss of each sequence */
    double  last_loss, seconds;
    int64_t tokens;
    struct tune_part part;
    struct tune_samples *samples;
};

/* PATH:F, F behind the last colon. */
static int read_replay(struct finetune *f, struct dan_err *e)
{
    const char *spec = f->o->replay, *colon = spec ? strrchr(spec, ':') : NULL;
    char *end = NULL;
    if (!spec) return DAN_OK;
    f->replay_share = colon ? strtod(colon + 1, &end) : 0;
    if (!colon || colon == spec || *end || f->replay_share <= 0 || f->replay_share >= 1)
        return dan_fail(e, DAN_EUSAGE, "--replay '%s' is no PATH:FRACTION with a fraction between 0 and 1: write book.txt:0.1", spec);
    char *path = dan_strdup(spec);
    if (!path) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    path[colon - spec] = 0;
    int rc = dan_sft_data_text((const char *const[]){path}, 1, f->t.m.tok, f->t.longest, 0, &f->replay, e);
    dan_free(path);
    return rc;
}

static int read_data(struct finetune *f, struct dan_err *e)
{
    const struct tune_opts *o = &f->t.o;
    struct dan_sft_data_opts so = {.tok = f->t.m.tok, .chat = &f->t.chat, .longest = f->t.longest,
                                   .learn = strcmp(f->o->learn, "last") ? DAN_LEARN_ALL : DAN_LEARN_LAST, .has_now = true, .now = f->t.now};
    int rc = dan_sft_data_read(o->data.v, o->data.n, &so, &f->data, e);
    if (rc) return rc;
    report_skipped_rows(&f->t.cli->ui, &f->data, NULL);
    rc = dan_sft_data_hold_out(&f->data, o->val_fraction, &f->val, e);
    if (!rc) rc = read_replay(f, e);
    if (!rc && f->o->forget.n) rc = dan_sft_data_text(f->o->forget.v, f->o->forget.n, f->t.m.tok, f->t.longest, FORGET_WINDOWS, &f->forget, e);
    tune_fingerprint(&f->t, &f->data);
    tune_fingerprint(&f->t, &f->replay);
    return rc;
}

/* A model that is fine-tuned is one already: rounding begins at once. */
static int set_qat(struct finetune *f, struct dan_err *e)
{
    struct qat_cli q = f->o->qat;
    q.inputs = "dynamic";
    return qat_options(f->t.cli, &q, &f->t.qat, e);
}

static int prepare(struct finetune *f, struct dan_err *e)
{
    const struct tune_opts *o = &f->t.o;
    char a[DAN_NUM], b[DAN_NUM];
    int rc = set_qat(f, e);
    if (!rc) rc = tune_open(&f->t, e);
    if (!rc) rc = read_data(f, e);
    if (!rc) rc = tune_start(&f->t, dan_sft_data_longest(&f->forget, dan_sft_data_longest(&f->replay, dan_sft_data_longest(&f->val, dan_sft_data_longest(&f->data, 2)))), e);
    if (!rc) rc = dan_sft_init(&f->sft, f->t.tuner, &f->data, f->replay.n ? &f->replay : NULL, f->replay_share, o->batch, f->t.rows, (uint64_t)f->t.cli->seed, e);
    if (rc) return rc;
    f->t.lr = o->lr > 0 ? o->lr : o->lora_rank ? 2e-4 : 2e-5;
    f->t.steps = o->steps ? o->steps : (int64_t)(o->epochs * (double)dan_sft_steps_per_epoch(&f->sft) + 0.5);
    if (f->t.steps < 1) f->t.steps = 1;
    if (dan_qat_on(&f->t.qat)) dan_tuner_rest_scales(f->t.tuner, (double)f->t.steps * (1 - f->t.qat.freeze));
    tune_tell_model(&f->t);
    dan_say(&f->t.cli->ui, "data     %zu sequences, %s tokens, %s of them learnt; %zu held out", f->data.n, dan_fmt_count((double)f->data.ids, a),
            dan_fmt_count((double)f->data.learnt, b), f->val.n);
    if (f->replay.n) dan_say(&f->t.cli->ui, "replay   %s tokens of text, %g %% of what is learnt", dan_fmt_count((double)f->replay.ids, a), 100 * f->replay_share);
    return DAN_OK;
}

static int measure(struct finetune *f, const struct dan_sft_data *d, double **mean, struct dan_err *e)
{
    double loss;
    if (!d->n) return DAN_OK;
    *mean = dan_calloc(d->n, sizeof **mean);
    return *mean ? dan_sft_eval(f->t.tuner, d, &f->sft.pack, &loss, *mean, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to evaluate");
}

static json_t *log_line(const struct finetune *f, const struct dan_sft_stats *s, double lr)
{
    json_t *j = json_pack("{s:I,s:f,s:f,s:f,s:f,s:I}", "step", (json_int_t)s->step, "loss", s->loss, "learning_rate", lr, "grad_norm", s->grad_norm, "epoch",
                          s->epoch, "num_tokens", (json_int_t)f->tokens);
    if (j && s->replayed) json_object_set_new(j, "replay_loss", json_real(s->replay_loss));
    return j;
}

static json_t *progress(const struct finetune *f, double seconds)
{
    return json_pack("{s:I,s:f,s:f}", "num_tokens", (json_int_t)f->tokens, "seconds", f->seconds + seconds, "loss", f->last_loss);
}

static int begin(struct finetune *f, struct dan_err *e)
{
    f->part = (struct tune_part){f->t.tuner, &f->t.m.lm, ""};
    int rc = tune_begin(&f->t, &f->part, 1, e);
    json_int_t tokens = 0;
    json_unpack(f->t.extra, "{s:I,s:f,s:f}", "num_tokens", &tokens, "seconds", &f->seconds, "loss", &f->last_loss);
    f->tokens = tokens;
    return rc;
}

static int loop(struct finetune *f, struct dan_err *e)
{
    struct dan_cli *cli = f->t.cli;
    struct dan_bar bar;
    struct dan_sft_stats s;
    double start = dan_now();
    int rc = DAN_OK;
    dan_bar_start(&bar, &cli->ui, "finetune", "step", f->t.first_step, f->t.steps);
    for (int64_t step = f->t.first_step; step < f->t.steps && !rc && !cli->stop; step++) {
        double lr = tune_lr(&f->t, step);
        rc = dan_sft_step(&f->sft, lr, &s, e);
        if (rc) break;
        f->tokens += s.ids;
        f->last_loss = s.loss;
        rc = tune_log(&f->t, log_line(f, &s, lr), e);
        if (!rc) rc = tune_step_done(&f->t, step + 1, progress(f, dan_now() - start), e);
        dan_bar_update(&bar, step + 1, "loss %.4f", s.loss);
    }
    dan_bar_finish(&bar);
    f->seconds += dan_now() - start;
    int64_t done = dan_tuner_steps(f->t.tuner);
    return !rc && cli->stop && done < f->t.steps ? tune_interrupted(&f->t, done, progress(f, 0), e) : rc;
}

static int report(struct finetune *f, struct dan_err *e)
{
    struct dan_str out = {0};
    json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:f,s:f}", "model", f->t.o.model, "out", f->t.o.out, "steps", (json_int_t)dan_tuner_steps(f->t.tuner), "num_tokens",
                          (json_int_t)f->tokens, "loss", f->last_loss, "tokens_per_second", f->seconds > 0 ? (double)f->tokens / f->seconds : 0);
    report_change(j, &out, "eval_loss", "held-out loss", 14, &f->val, f->val_before, f->val_after);
    report_change(j, &out, "forgetting", "forgetting", 14, &f->forget, f->forget_before, f->forget_after);
    int rc = j ? tune_samples_report(f->samples, j, &out, e) : DAN_OK;
    if (!rc) rc = tune_report(&f->t, j, &out, e);
    else json_decref(j);
    dan_str_release(&out);
    return rc;
}

static int work(struct finetune *f, struct dan_err *e)
{
    int rc = prepare(f, e);
    if (!rc) rc = measure(f, &f->val, &f->val_before, e);
    if (!rc) rc = measure(f, &f->forget, &f->forget_before, e);
    if (!rc) rc = tune_samples_before(&f->t, &f->val, 1, f->o->samples, &f->samples, e);
    if (!rc) rc = begin(f, e);
    if (!rc) rc = loop(f, e);
    if (!rc) rc = measure(f, &f->val, &f->val_after, e);
    if (!rc) rc = measure(f, &f->forget, &f->forget_after, e);
    if (!rc) rc = tune_samples_after(f->samples, e);
    if (!rc) rc = tune_save(&f->t, e);
    return rc ? rc : report(f, e);
}

static void release(struct finetune *f)
{
    tune_samples_free(f->samples);
    dan_sft_release(&f->sft);
    dan_sft_data_release(&f->data);
    dan_sft_data_release(&f->val);
    dan_sft_data_release(&f->replay);
    dan_sft_data_release(&f->forget);
    dan_free(f->val_before);
    dan_free(f->val_after);
    dan_free(f->forget_before);
    dan_free(f->forget_after);
    tune_release(&f->t);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct finetune_opts o = *(const struct finetune_opts *)opts;
    struct finetune *f = dan_arena_alloc(cli->arena, sizeof *f);
    if (!f) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    int rc = tune_recipe(cli, &o, &o.tune, e);
    if (rc) return rc;
    *f = (struct finetune){.t = {.o = o.tune, .cli = cli, .all = &o}, .o = &o};
    rc = work(f, e);
    release(f);
    return rc;
}

const struct dan_cmd dan_cmd_finetune = {
    .name = "finetune", .doc = "teach a model dialogues: all weights, or a LoRA adapter", .group = DAN_GROUP_TRAIN, .rank = 1,
    .about = "Supervised fine-tuning. Dialogues go through the model's chat template, the same as in 'danlu chat'; the loss counts the assistant's\n"
             "turns and the token that ends each. Sequences of all lengths are packed and do not see each other. With --lora-rank the model stays as\n"
             "it is (it may be quantised) and an adapter in PEFT's layout is written. The report has the held-out loss before and after, and with\n"
             "--forget-eval what was forgotten. With --qlora the base is quantised in memory and an adapter learns over it; with --qat products see\n"
             "rounded weights, the adapter merged in, and OUT/quantised holds the model as integers that was trained.\n\n"
             "merge, unmerge and stack work on adapters that are there: see 'danlu finetune merge --help'.",
    .example = "danlu finetune runs/book --data chats.jsonl --lora-rank 8 --out runs/book-chat\ndanlu finetune --resume runs/book-chat",
    .opts = options, .opts_bytes = sizeof(struct finetune_opts), .run = run,
    .sub = (const struct dan_cmd *const[]){&finetune_cmd_merge, &finetune_cmd_unmerge, &finetune_cmd_stack, NULL}};
