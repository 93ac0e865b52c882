/* danlu reward: a model that says which answers people prefer. */
#include <string.h>
#include "align/reward_model.h"
#include "align/reward_open.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/reward_cmd.h"
#include "cli/tune.h"
#include "model/lora_files.h"
#include "model/score.h"

enum { NORMALISED = 4096 };                    /* answers that the mean is taken over, at most */
struct reward_opts { struct tune_opts tune; struct dan_strings eval; double margin, center; bool normalise, shuffle, raw; };

#define AT(f) offsetof(struct reward_opts, f)
static const struct dan_opt options[] = {
    TUNE_DATA_OPTIONS(struct reward_opts, "preference pairs or ranked answers: .jsonl or .json (prompt, chosen, rejected; HH; ShareGPT; prompt, completions, ranks)"),
    {.name = "eval-data", .type = 'S', .offset = AT(eval), .meta = "PATH", .help = "pairs to judge it by, instead of a part of the data"},
    {.name = "raw", .type = 'b', .offset = AT(raw), .help = "no chat template: prompt and answer as they stand, one after the other"},
    {.name = "shuffle-labels", .type = 'b', .offset = AT(shuffle), .help = "a control: which answer is better is drawn anew; held-out accuracy must then be one half"},
    {.name = "margin", .type = 'f', .offset = AT(margin), .dflt = "1", .meta = "X", .min = 0, .max = 1000, .section = "Loss",
     .help = "factor of the rows' 'margin' (LLaMA 2): rewards are to differ by more than that (0: as if rows had none)"},
    {.name = "center", .type = 'f', .offset = AT(center), .dflt = "0", .meta = "X", .min = 0, .max = 1000, .alias = "center-rewards-coefficient",
     .help = "coefficient of (r chosen + r rejected)^2, which keeps rewards around 0 (TRL: 0.01)"},
    {.name = "normalize", .type = 'b', .offset = AT(normalise), .dflt = "true", .help = "a bias so that the mean reward on the data is 0, kept as reward_bias in the config"},
    TUNE_OPTIM_OPTIONS(struct reward_opts, "1", "peak learning rate (0: 1e-4 for adapters, 1e-5 for all weights)"),
    TUNE_LORA_OPTIONS(struct reward_opts),
    TUNE_MACHINE_OPTIONS(struct reward_opts),
    TUNE_RUN_OPTIONS(struct reward_opts),
    {.name = NULL}};

struct reward {
    struct tune t;
    const struct reward_opts *o;
    struct dan_ranked data, val;
    struct dan_rm rm;
    struct dan_rm_stats last;
    struct dan_rm_report before, after;
    struct tune_part part;
    int64_t tokens;
    double  seconds, bias;
};

/* ---- data ---- */

static void fingerprint(struct tune *t, const struct dan_ranked *d)
{
    tune_fingerprint(t, &d->rows);
    tune_fingerprint_bytes(t, d->rank, d->rows.n * sizeof *d->rank);
}

/* --raw is a template, too: what scores later reads it from the folder. */
static int raw_template(struct reward *w, struct dan_err *e)
{
    const char *text = dan_rm_raw_template(w->t.m.prefix.n > 0);
    char *copy = dan_strdup(text);
    if (!copy) return dan_fail(e, DAN_ENOMEM, "not enough memory for a template");
    dan_free(w->t.chat.text);
    dan_ids_release(&w->t.chat.before);
    w->t.chat.before = (struct dan_ids){0};
    w->t.chat.text = copy;
    w->t.chat.n = strlen(copy);
    w->t.chat.builtin = "raw";
    w->t.keeps_template = true;
    return DAN_OK;
}

static int read_data(struct reward *w, struct dan_err *e)
{
    const struct tune_opts *o = &w->t.o;
    struct dan_sft_data_opts so = {.tok = w->t.m.tok, .chat = &w->t.chat, .longest = w->t.longest, .has_now = true, .now = w->t.now};
    uint64_t seed = (uint64_t)w->t.cli->seed;
    int rc = dan_ranked_read(o->data.v, o->data.n, &so, &w->data, e);
    if (rc) return rc;
    reward_tell_skipped(&w->t.cli->ui, &w->data.rows);
    if (w->o->shuffle) dan_ranked_shuffle(&w->data, seed);
    if (!w->o->eval.n) rc = dan_ranked_hold_out(&w->data, o->val_fraction, &w->val, e);
    else if (!(rc = dan_ranked_read(w->o->eval.v, w->o->eval.n, &so, &w->val, e))) reward_tell_skipped(&w->t.cli->ui, &w->val.rows);
    if (!rc && w->o->eval.n && w->o->shuffle) dan_ranked_shuffle(&w->val, seed + 1);
    if (!rc) fingerprint(&w->t, &w->data);
    return rc;
}

/* ---- rewards of many ---- */

static int rewards_of(struct reward *w, const struct dan_ranked *d, size_t every, double *out, size_t *n, struct dan_err *e)
{
    const struct dan_sft_row **row = dan_malloc((d->rows.n + 1) * sizeof *row);
    *n = 0;
    for (size_t i = 0; row && i < d->rows.n; i += every) row[(*n)++] = &d->rows.v[i];
    int rc = row ? dan_rows_value(w->t.tuner, row, *n, &w->rm.pack, out, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    dan_free(row);
    return rc;
}

static int judge(struct reward *w, struct dan_rm_report *out, struct dan_err *e)
{
    double *r = dan_malloc((w->val.rows.n + 1) * sizeof *r);
    size_t n;
    int rc = r ? rewards_of(w, &w->val, 1, r, &n, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t i = 0; i < w->val.rows.n && !rc; i++) r[i] += w->bias;
    if (!rc) rc = dan_rm_judge(&w->val, r, (uint64_t)w->t.cli->seed, out, e);
    dan_free(r);
    return rc;
}

/* The mean over (a part of) the data becomes 0. */
static int normalise(struct reward *w, struct dan_err *e)
{
    size_t every = w->data.rows.n / NORMALISED + 1, n = 0;
    double *r = dan_malloc((w->data.rows.n + 1) * sizeof *r), mean = 0;
    if (!w->o->normalise || !r) {
        dan_free(r);
        return w->o->normalise ? dan_fail(e, DAN_ENOMEM, "not enough memory to score answers") : DAN_OK;
    }
    int rc = rewards_of(w, &w->data, every | 1, r, &n, e);     /* an odd stride takes better and worse ones of pairs alike */
    for (size_t i = 0; i < n && !rc; i++) mean += r[i] / (double)n;
    if (!rc) w->bias = -mean;
    dan_free(r);
    return rc;
}

/* ---- the run ---- */

static int prepare(struct reward *w, struct dan_err *e)
{
    const struct tune_opts *o = &w->t.o;
    struct dan_rm_opts ro = {.margin = w->o->margin, .center = w->o->center, .batch = o->batch, .seed = (uint64_t)w->t.cli->seed};
    char a[DAN_NUM];
    w->t.head = DAN_HEAD_SCORE;
    int rc = w->o->raw && o->template ? dan_fail(e, DAN_EUSAGE, "--raw is no template: leave out --template, or --raw") : tune_open(&w->t, e);
    if (!rc && w->o->raw) rc = raw_template(w, e);
    if (!rc) rc = read_data(w, e);
    if (!rc) rc = tune_start(&w->t, dan_sft_data_longest(&w->val.rows, dan_sft_data_longest(&w->data.rows, 1)) + 1, e);
    if (!rc) rc = dan_rm_init(&w->rm, w->t.tuner, &w->data, &ro, w->t.rows, e);
    if (rc) return rc;
    tune_tell_model(&w->t);
    dan_say(&w->t.cli->ui, "data     %lld pairs of %zu prompts, %s tokens; %lld pairs held out%s", (long long)w->data.pairs, w->data.n,
            dan_fmt_count((double)w->data.rows.ids, a), (long long)w->val.pairs, w->o->shuffle ? "; labels shuffled" : "");
    w->t.lr = o->lr > 0 ? o->lr : o->lora_rank ? 1e-4 : 1e-5;
    w->t.steps = o->steps ? o->steps : (int64_t)(o->epochs * (double)dan_rm_steps_per_epoch(&w->rm) + 0.5);
    if (w->t.steps < 1) w->t.steps = 1;
    return w->val.n ? judge(w, &w->before, e) : DAN_OK;
}

static json_t *progress(const struct reward *w, double seconds) { return json_pack("{s:I,s:f}", "num_tokens", (json_int_t)w->tokens, "seconds", w->seconds + seconds); }

static int begin(struct reward *w, struct dan_err *e)
{
    json_int_t tokens = 0;
    w->part = (struct tune_part){w->t.tuner, &w->t.m.lm, ""};
    int rc = tune_begin(&w->t, &w->part, 1, e);
    json_unpack(w->t.extra, "{s:I,s:f}", "num_tokens", &tokens, "seconds", &w->seconds);
    w->tokens = tokens;
    return rc;
}

/* TRL's names. */
static json_t *metrics(const struct dan_rm_stats *s)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f}", "loss", s->loss, "accuracy", s->accuracy, "margin", s->margin, "min_reward", s->min_reward, "mean_reward", s->mean_reward,
                     "max_reward", s->max_reward);
}

static json_t *log_line(const struct reward *w, int64_t step, double lr, double norm)
{
    json_t *j = metrics(&w->last);
    json_object_set_new(j, "step", json_integer(step));
    json_object_set_new(j, "learning_rate", json_real(lr));
    json_object_set_new(j, "grad_norm", json_real(norm));
    json_object_set_new(j, "epoch", json_real((double)(step * w->rm.o.batch) / (double)w->data.n));
    json_object_set_new(j, "num_tokens", json_integer(w->tokens));
    return j;
}

static int loop(struct reward *w, struct dan_err *e)
{
    struct dan_cli *cli = w->t.cli;
    struct dan_bar bar;
    double start = dan_now(), norm = 0;
    int rc = DAN_OK;
    dan_bar_start(&bar, &cli->ui, "reward", "step", w->t.first_step, w->t.steps);
    for (int64_t step = w->t.first_step; step < w->t.steps && !rc && !cli->stop; step++) {
        double lr = tune_lr(&w->t, step);
        rc = dan_rm_step(&w->rm, lr, &w->last, &norm, e);
        if (rc) break;
        w->tokens += w->last.ids;
        rc = tune_log(&w->t, log_line(w, step + 1, lr, norm), e);
        if (!rc) rc = tune_step_done(&w->t, step + 1, progress(w, dan_now() - start), e);
        dan_bar_update(&bar, step + 1, "loss %.4f  accuracy %.2f", w->last.loss, w->last.accuracy);
    }
    dan_bar_finish(&bar);
    w->seconds += dan_now() - start;
    int64_t done = dan_tuner_steps(w->t.tuner);
    return rc || !cli->stop || done >= w->t.steps ? rc : tune_interrupted(&w->t, done, progress(w, 0), e);
}

/* transformers reads the value at the last token that is not `pad`, so pad must be a token that ends no answer (its usual stand-in, eos, would hide the end). */
static int32_t pad_beside(const struct reward *w)
{
    const struct dan_sft_row *r = &w->data.rows.v[0];
    const struct dan_tokenizer *tok = w->t.m.tok;
    const int32_t choice[] = {(int32_t)w->t.m.lm.cfg.pad, dan_tokenizer_unk(tok), dan_tokenizer_bos(tok)};
    for (size_t i = 0; i < sizeof choice / sizeof *choice; i++)
        if (choice[i] >= 0 && choice[i] != r->ids[r->n - 1]) return choice[i];
    return -1;
}

/* A reward model has no language head; an adapter's folder has the adapter and its score head. */
static int save(struct reward *w, struct dan_err *e)
{
    struct dan_lm *lm = &w->t.m.lm;
    int rc = DAN_OK;
    lm->cfg.reward_bias = w->bias;
    lm->cfg.pad = pad_beside(w);
    if (w->t.o.merge && !dan_lm_score_of(lm, NULL)) rc = dan_lm_add_score(lm, &(struct dan_score_opts){.like = lm->adapter[lm->n_adapters - 1].name}, e);
    if (!w->t.o.lora_rank || w->t.o.merge) dan_lm_drop_lm_head(lm);
    if (!rc) rc = tune_save(&w->t, e);
    return rc || !dan_lora_is(w->t.o.out) ? rc : dan_lora_save_reward_bias(w->t.o.out, w->bias, e);
}

static int report(struct reward *w, struct dan_err *e)
{
    struct dan_str out = {0};
    json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:f,s:f,s:b,s:o}", "model", w->t.o.model, "out", w->t.o.out, "steps", (json_int_t)dan_tuner_steps(w->t.tuner), "num_tokens",
                          (json_int_t)w->tokens, "tokens_per_second", w->seconds > 0 ? (double)w->tokens / w->seconds : 0, "reward_bias", w->bias, "shuffled_labels",
                          (int)w->o->shuffle, "train", metrics(&w->last));
    if (w->val.n) {
        json_object_set_new(j, "eval_before", reward_report_json(&w->before));
        json_object_set_new(j, "eval", reward_report_json(&w->after));
        dan_str_printf(&out, "before      accuracy %.3f, loss %.4f\n", w->before.accuracy, w->before.loss);
        reward_report_text(&w->after, "held out", w->t.cli->ui.out_colour, &out);
        if (!w->o->shuffle) reward_report_warn(&w->after, &w->t.cli->ui);
    } else dan_str_puts(&out, "no pairs were held out: give --eval-data, or a larger --val-fraction\n");
    w->t.try_it = "reward score";
    int rc = tune_report(&w->t, j, &out, e);
    dan_str_release(&out);
    return rc;
}

static int work(struct reward *w, struct dan_err *e)
{
    int rc = prepare(w, e);
    if (!rc) rc = begin(w, e);
    if (!rc) rc = loop(w, e);
    if (!rc) rc = normalise(w, e);
    if (!rc && w->val.n) rc = judge(w, &w->after, e);
    if (!rc) rc = save(w, e);
    return rc ? rc : report(w, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct reward_opts o = *(const struct reward_opts *)opts;
    int rc = tune_recipe(cli, &o, &o.tune, e);
    struct reward *w = dan_arena_alloc(cli->arena, sizeof *w);
    if (rc || !w) return rc ? rc : dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    *w = (struct reward){.t = {.o = o.tune, .cli = cli, .all = &o}, .o = &o};
    rc = work(w, e);
    dan_rm_release(&w->rm);
    dan_ranked_release(&w->data);
    dan_ranked_release(&w->val);
    tune_release(&w->t);
    return rc;
}

const struct dan_cmd dan_cmd_reward = {
    .name = "reward", .doc = "learn which answers people prefer: a reward model", .group = DAN_GROUP_ALIGN, .rank = 0,
    .usage = "MODEL --data PATH --out DIR [OPTIONS]   |   score DIR --data FILE   |   eval DIR --data FILE",
    .about = "A model with a head that gives an answer a number, at the token that ends its turn. It learns from pairs (chosen, rejected) or from ranked answers, all\n"
             "pairs of a prompt in one pass. The report has the held-out accuracy with its interval, by margin and by difference, calibration, and how far rewards go\n"
             "with length. 'reward score' scores answers, 'reward eval' judges a reward model; 'grpo', 'ppo' and 'best' take it as --reward model:DIR.",
    .example = "danlu reward runs/chat --data pairs.jsonl --lora-rank 8 --out runs/reward\n"
               "danlu reward eval runs/reward --data more-pairs.jsonl",
    .opts = options, .opts_bytes = sizeof(struct reward_opts), .run = run, .sub = (const struct dan_cmd *const[]){&reward_cmd_score, &reward_cmd_eval, NULL}};
