/* danlu best: the best of n answers to each prompt, as rows to learn from (rejection sampling). */
#include <math.h>
#include <string.h>
#include "align/policy.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/rl_options.h"
#include "io/json.h"

enum { MOST_NS = 16 };

struct best_opts { struct tune_opts tune; struct rl_opts rl; const char *pairs; int64_t n, keep; double least; };

#define AT(f) offsetof(struct best_opts, f)
#define TUNE(f) offsetof(struct best_opts, tune.f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = TUNE(model), .meta = "MODEL", .help = "model folder or file that answers"},
    {.name = "data", .type = 'S', .offset = TUNE(data), .meta = "PATH", .section = "Data", .required = true, .help = "prompts: .jsonl or .json (prompt, messages, dialogues, text)"},
    {.name = "template", .type = 's', .offset = TUNE(template), .meta = "NAME|FILE", .alias = "chat-template", .help = "chat template (default: the model's, else a built-in one)"},
    {.name = "context", .type = 'i', .offset = TUNE(context), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20, .help = "longest prompt and answer in tokens (0: the model's)"},
    RL_ANSWER_OPTIONS(struct best_opts, "128"),
    {.name = "n", .type = 'i', .offset = AT(n), .dflt = "8", .meta = "N", .min = 1, .max = 4096, .alias = "best-of|num-samples", .section = "Choice", .help = "answers to each prompt"},
    {.name = "keep", .type = 'i', .offset = AT(keep), .dflt = "1", .meta = "K", .min = 1, .max = 4096, .help = "of them written, best first; the same answer only once"},
    {.name = "min-reward", .type = 'f', .offset = AT(least), .meta = "X", .min = -1e300, .max = 1e300, .help = "answers with less are not written (default: none is too little)"},
    {.name = "out", .type = 's', .offset = TUNE(out), .meta = "FILE.jsonl", .letter = 'o', .section = "Output", .required = true, .help = "rows for 'danlu finetune', with their rewards"},
    {.name = "pairs", .type = 's', .offset = AT(pairs), .meta = "FILE.jsonl", .help = "also the best and the worst answer of each prompt as a preference pair"},
    {.name = NULL}};

struct best {
    struct tune t;
    struct rl rl;
    struct best_opts *o;
    struct dan_str rows, pairs;
    int64_t written, pairs_n, answers, cut_short, tokens, flat, prompts;
    int     n_at, at[MOST_NS];                 /* 1, 2, 4, .. n */
    double  sum[MOST_NS], squares[MOST_NS], chosen, seconds;
};

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for answers"); }

static json_t *with_answer(const struct dan_said *s)
{
    json_t *messages = json_copy(s->prompt->messages);
    json_array_append_new(messages, json_pack("{s:s,s:o}", "role", "assistant", "content", dan_json_string_of(s->text, s->text_n)));
    return messages;
}

/* Prompt and answer in the form of the prompt: a dialogue, or a text. */
static json_t *row_of(const struct dan_said *s, double reward)
{
    json_t *j = json_object();
    struct dan_str text = {0};
    if (s->prompt->messages) json_object_set_new(j, "messages", with_answer(s));
    else {
        dan_str_puts(&text, s->prompt->last);
        dan_str_append(&text, s->text, s->text_n);
        json_object_set_new(j, "text", dan_json_string_of(dan_str_c(&text), text.n));
    }
    json_object_set_new(j, "reward", json_real(reward));
    dan_str_release(&text);
    return j;
}

static json_t *pair_of(const struct dan_said *best, const struct dan_said *worst, double above)
{
    json_t *prompt = best->prompt->messages ? json_incref(best->prompt->messages) : dan_json_string_of(best->prompt->last, strlen(best->prompt->last));
    return json_pack(best->prompt->messages ? "{s:o,s:[{s:s,s:o}],s:[{s:s,s:o}],s:f}" : "{s:o,s:o,s:o,s:f}", "prompt", prompt, "chosen", dan_json_string_of(best->text, best->text_n), "rejected",
                     dan_json_string_of(worst->text, worst->text_n), "reward_margin", above);
}

static int put_line(struct dan_str *out, json_t *j, struct dan_err *e)
{
    int bad = !j || dan_json_text(j, out);
    dan_str_putc(out, '\n');
    json_decref(j);
    return bad || out->failed ? no_memory(e) : DAN_OK;
}

/* The best answer that is not yet taken and is none of the texts that are.  One that was cut short is none: learnt from, it teaches to stop anywhere. */
static int64_t next_best(const struct best *b, const struct dan_said *s, const double *r, const int64_t *taken, int64_t n_taken)
{
    int64_t best = -1;
    for (int64_t i = 0; i < b->o->n; i++) {
        bool out = isnan(r[i]) || (!s[i].ended && b->rl.stop.n);
        for (int64_t k = 0; k < n_taken && !out; k++) out = taken[k] == i || !strcmp(s[taken[k]].text, s[i].text);
        if (!out && (best < 0 || r[i] > r[best])) best = i;
    }
    return best;
}

static void count(struct best *b, const double *r, int64_t n)
{
    for (int k = 0; k < b->n_at; k++) {
        double x = dan_best_of(r, (int)n, b->at[k]);
        b->sum[k] += x;
        b->squares[k] += x * x;
    }
    b->flat += dan_group_flat(r, n);
    b->prompts++;
}

static int take_prompt(struct best *b, const struct dan_said *s, const double *r, int64_t *taken, struct dan_err *e)
{
    int64_t n = b->o->n, k = 0, worst = -1;
    int rc = DAN_OK;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(r[i]) && (worst < 0 || r[i] < r[worst])) worst = i;
    if (worst < 0) return DAN_OK;
    bool whole = true;
    for (int64_t i = 0; i < n; i++) whole = whole && !isnan(r[i]);
    if (whole) count(b, r, n);
    for (; k < b->o->keep && k < n && !rc; k++) {
        int64_t i = next_best(b, s, r, taken, k);
        if (i < 0 || r[i] < b->o->least) break;
        taken[k] = i;
        b->chosen += r[i];
        b->written++;
        rc = put_line(&b->rows, row_of(&s[i], r[i]), e);
    }
    int64_t first = next_best(b, s, r, taken, 0);
    if (rc || !b->o->pairs || first < 0 || !(r[first] > r[worst])) return rc;
    b->pairs_n++;
    return put_line(&b->pairs, pair_of(&s[first], &s[worst], r[first] - r[worst]), e);
}

static int take(struct best *b, const struct dan_prompt *const *p, int64_t n, struct dan_err *e)
{
    struct dan_rollouts said = {0};
    int64_t samples = b->o->n;
    double *r = dan_malloc(((size_t)(n * samples) + 1) * sizeof *r);
    int64_t *taken = dan_malloc((size_t)samples * sizeof *taken);
    int rc = r && taken ? dan_rollout_run(b->rl.rollout, p, n, samples, 0, &said, e) : no_memory(e);
    if (!rc) rc = rl_score(&b->rl, &said, r, NULL, e);
    for (int64_t i = 0; i < n && !rc; i++) rc = take_prompt(b, said.v + i * samples, r + i * samples, taken, e);
    for (size_t i = 0; i < said.n; i++) b->cut_short += !said.v[i].ended;
    b->answers += (int64_t)said.n;
    b->tokens += said.tokens;
    b->seconds += said.seconds;
    dan_rollouts_release(&said);
    dan_free(r);
    dan_free(taken);
    return rc;
}

/* In portions, so that a reward that fails or an interruption loses one of them at most. */
static int loop(struct best *b, struct dan_err *e)
{
    struct dan_bar bar;
    int64_t all = (int64_t)b->rl.prompts.n, portion = 4 * b->o->rl.streams / b->o->n, done = 0;
    if (portion < 1) portion = 1;
    const struct dan_prompt **p = dan_malloc((size_t)all * sizeof *p);
    int rc = p ? DAN_OK : no_memory(e);
    for (int64_t i = 0; i < all && !rc; i++) p[i] = &b->rl.prompts.v[i];
    dan_bar_start(&bar, &b->t.cli->ui, "best", "prompt", 0, all);
    while (done < all && !rc) {
        int64_t n = all - done < portion ? all - done : portion;
        b->rl.rewards.partial = done > 0;      /* a first portion without any reward is an error, a later one none */
        rc = take(b, p + done, n, e);
        if (rc) break;
        done += n;
        dan_bar_update(&bar, done, "reward %.4f", b->written ? b->chosen / (double)b->written : 0);
    }
    dan_bar_finish(&bar);
    dan_free(p);
    return rc;
}

static int write_all(const struct best *b, struct dan_err *e)
{
    int rc = dan_write_file(b->t.o.out, dan_str_c(&b->rows), b->rows.n, e);
    return rc || !b->o->pairs ? rc : dan_write_file(b->o->pairs, dan_str_c(&b->pairs), b->pairs.n, e);
}

/* What is there is kept. */
static int stopped(const struct best *b, int rc, struct dan_err *e)
{
    struct dan_err why = *e, other = {0};
    if (!b->written) return rc;
    if (write_all(b, &other)) return rc;
    *e = (struct dan_err){0};
    return dan_fail(e, rc, "%s; the %lld rows so far are in '%s'", why.msg, (long long)b->written, b->t.o.out);
}

static int prepare(struct best *b, struct dan_err *e)
{
    struct tune *t = &b->t;
    char a[DAN_NUM];
    t->now = dan_unix_time();
    int rc = lm_open(t->cli, t->o.model, true, &t->m, e);
    if (rc) return rc;
    t->longest = t->o.context ? t->o.context : t->m.lm.cfg.context;
    rc = dan_chat_template_open(&t->chat, t->m.tok, t->o.template, &t->m.prefix, e);
    if (!rc) rc = rl_open(&b->rl, t, &b->o->rl, e);
    if (!rc) rc = rl_start_answers(&b->rl, DAN_PREC_F32, true, e);
    if (rc) return rc;
    for (int64_t n = 1; n < b->o->n && b->n_at < MOST_NS - 1; n *= 2) b->at[b->n_at++] = (int)n;
    b->at[b->n_at++] = (int)b->o->n;
    dan_say(&t->cli->ui, "prompts  %zu, %s tokens; %lld answers to each", b->rl.prompts.n, dan_fmt_count((double)b->rl.prompts.ids, a), (long long)b->o->n);
    return DAN_OK;
}

static json_t *curve(const struct best *b, struct dan_str *out)
{
    json_t *all = json_array();
    double m = (double)b->prompts;
    dan_str_puts(out, "   n   mean reward   standard error   KL at most\n");
    for (int k = 0; k < b->n_at && b->prompts; k++) {
        double mean = b->sum[k] / m, error = b->prompts > 1 ? sqrt(fmax(0, b->squares[k] - b->sum[k] * mean) / (m - 1) / m) : 0, kl = dan_best_of_kl(b->at[k]);
        dan_str_printf(out, "%4d   %11.4f   %14.4f   %10.4f\n", b->at[k], mean, error, kl);
        json_array_append_new(all, json_pack("{s:i,s:f,s:f,s:f}", "n", b->at[k], "reward", mean, "standard_error", error, "kl_bound", kl));
    }
    return all;
}

static int report(struct best *b, struct dan_err *e)
{
    struct dan_str out = {0};
    struct dan_ui *ui = &b->t.cli->ui;
    double mean = b->written ? b->chosen / (double)b->written : 0, rate = b->seconds > 0 ? (double)b->tokens / b->seconds : 0;
    json_t *best_of = curve(b, &out);
    json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:f,s:I,s:I,s:o,s:f}", "model", b->t.o.model, "out", b->t.o.out, "prompts", (json_int_t)b->rl.prompts.n, "answers", (json_int_t)b->answers,
                          "written", (json_int_t)b->written, "pairs", (json_int_t)b->pairs_n, "reward", mean, "all_rewards_equal", (json_int_t)b->flat, "cut_short", (json_int_t)b->cut_short, "best_of", best_of,
                          "rollout_tokens_per_second", rate);
    dan_str_printf(&out, "%lld rows, mean reward %.4f; of %lld prompts %lld had the same reward for every answer; %lld of %lld answers were cut short and are not written; %.0f tokens/s\n",
                   (long long)b->written, mean, (long long)b->prompts, (long long)b->flat, (long long)b->cut_short, (long long)b->answers, rate);
    struct dan_str beside = {0};
    dan_str_printf(&beside, "%s.report.json", b->t.o.out);
    int rc = !j || out.failed || beside.failed ? no_memory(e) : dan_json_write(beside.p, j, e);
    if (!rc) rc = b->t.cli->json ? dan_out_json(ui, json_incref(j), e) : dan_out(ui, dan_str_c(&out), out.n, e);
    if (!rc && !b->written)
        dan_warn(ui, "no row was written: %s", b->cut_short == b->answers ? "no answer ended; a larger --max-new, a template that ends its turns, or a model that has learnt to end them helps"
                                                                          : "no answer was good enough (--min-reward), or a reward applied to none");
    else if (!rc) dan_say(ui, "wrote '%s'; learn from it: danlu finetune %s --data %s --out ...", b->t.o.out, b->t.o.model, b->t.o.out);
    json_decref(j);
    dan_str_release(&beside);
    dan_str_release(&out);
    return rc;
}

/* Answers take hours, and their files are written last. */
static int check_file(struct dan_cli *cli, const char *path, const char *option, struct dan_err *e)
{
    const char *slash = strrchr(path, '/'), *dir = slash ? dan_arena_printf(cli->arena, "%.*s", (int)(slash - path) + 1, path) : ".";
    if (!dir) return no_memory(e);
    if (dan_path_exists(path)) return dan_fail(e, DAN_EINVAL, "'%s' is there already; choose another --%s", path, option);
    if (!dan_path_is_dir(dir)) return dan_fail(e, DAN_EIO, "there is no folder '%s' for --%s; make it first, or choose another name", dir, option);
    return DAN_OK;
}

static int check(struct dan_cli *cli, const struct best_opts *o, struct dan_err *e)
{
    if (o->pairs && !strcmp(o->pairs, o->tune.out)) return dan_fail(e, DAN_EUSAGE, "--out and --pairs are the same file '%s'; choose two", o->pairs);
    int rc = check_file(cli, o->tune.out, "out", e);
    return rc || !o->pairs ? rc : check_file(cli, o->pairs, "pairs", e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct best_opts o = *(const struct best_opts *)opts;
    struct best *b = dan_arena_alloc(cli->arena, sizeof *b);
    if (!b) return no_memory(e);
    if (!dan_given(cli, "min-reward")) o.least = -INFINITY;
    *b = (struct best){.t = {.o = o.tune, .cli = cli}, .o = &o};
    int rc = check(cli, &o, e);
    if (!rc) rc = prepare(b, e);
    if (!rc) {
        rc = loop(b, e);
        rc = rc ? stopped(b, rc, e) : write_all(b, e);
    }
    if (!rc) rc = report(b, e);
    dan_str_release(&b->rows);
    dan_str_release(&b->pairs);
    rl_release(&b->rl);
    tune_release(&b->t);
    return rc;
}

const struct dan_cmd dan_cmd_best = {
    .name = "best", .doc = "sample n answers to each prompt and keep the best, as rows to learn from", .group = DAN_GROUP_ALIGN, .rank = 5,
    .about = "Rejection sampling: the model gives n answers to each prompt, rewards score them, the best is written with its reward as a row for 'danlu finetune'\n"
             "(a dialogue, or a text where the prompt is one). The table says what best-of-1, 2, 4 .. n is worth, without bias, and how far from the model it is\n"
             "at most: ln n - (n - 1) / n nats. The same seed gives the same answers; another round needs another --seed.",
    .example = "danlu best runs/chat --data prompts.jsonl --reward number --n 16 --out best.jsonl\n"
               "danlu finetune runs/chat --data best.jsonl --out runs/chat-2",
    .opts = options, .opts_bytes = sizeof(struct best_opts), .run = run};
