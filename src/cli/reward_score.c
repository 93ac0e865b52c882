/* danlu reward score, danlu reward eval: a trained reward model at work. */
#include <stdio.h>
#include <string.h>
#include "align/reward_open.h"
#include "align/sft_data_impl.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/lm_open.h"
#include "cli/reward_cmd.h"
#include "exec/precision.h"
#include "io/json.h"

enum { GROUP = 256 };                          /* answers scored between two looks at Ctrl-C */
struct score_opts { const char *model, *template, *dtype; struct dan_strings data; int64_t context; bool shuffle; };

#define AT(f) offsetof(struct score_opts, f)
#define COMMON_OPTIONS(what)                                                                                                                          \
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "DIR", .help = "folder that 'danlu reward' wrote"},                                   \
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .required = true, .help = what},                                               \
    {.name = "template", .type = 's', .offset = AT(template), .meta = "NAME|FILE", .alias = "chat-template", .help = "chat template (default: the reward model's)"}, \
    {.name = "context", .type = 'i', .offset = AT(context), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20, .alias = "max-length",               \
     .help = "longest prompt with answer in tokens (0: the model's)"},                                                                              \
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "auto", .choices = "auto|f32|bf16", .help = "of matrix products; auto: bf16 where the CPU has it"}
static const struct dan_opt score_options[] = {COMMON_OPTIONS("rows with answers: pairs, ranked answers, dialogues, prompt and completion; - is standard input, JSON lines"), {.name = NULL}};
static const struct dan_opt eval_options[] = {
    COMMON_OPTIONS("preference pairs or ranked answers"),
    {.name = "shuffle-labels", .type = 'b', .offset = AT(shuffle), .help = "a control: which answer is better is drawn anew"},
    {.name = NULL}};

struct job {
    const struct score_opts *o;
    struct dan_cli *cli;
    struct dan_pool *pool;
    struct dan_rm_scorer s;
};

static int open_job(struct job *j, struct dan_err *e)
{
    uint64_t mask = dan_isa_mask(j->cli->isa);
    struct dan_rm_open_opts o = {.cpu_mask = mask, .template = j->o->template, .context = j->o->context, .now = dan_unix_time(),
                                 .prec = dan_prec_of(j->o->dtype, mask)};
    int rc = dan_pool_new((int)j->cli->threads, &j->pool, e);
    o.pool = j->pool;
    return rc ? rc : dan_rm_open(j->o->model, &o, &j->s, e);
}

static void close_job(struct job *j)
{
    dan_rm_close(&j->s);
    dan_pool_free(j->pool);
}

static int interrupted(struct dan_err *e) { return dan_fail(e, DAN_ECANCELLED, "interrupted; what is printed is whole"); }

static int score_all(struct job *j, const struct dan_sft_row *rows, size_t n, double *reward, struct dan_err *e)
{
    const struct dan_sft_row *row[GROUP];
    struct dan_bar bar;
    int rc = DAN_OK;
    dan_bar_start(&bar, &j->cli->ui, "score", "answer", 0, (int64_t)n);
    for (size_t at = 0; at < n && !rc; at += GROUP) {
        size_t k = n - at < GROUP ? n - at : GROUP;
        for (size_t i = 0; i < k; i++) row[i] = &rows[at + i];
        rc = j->cli->stop ? interrupted(e) : dan_rm_score(&j->s, row, k, reward + at, e);
        if (!rc) dan_bar_update(&bar, (int64_t)(at + k), "%s", "");
    }
    dan_bar_finish(&bar);
    return rc;
}

/* ---- eval ---- */

static int print_report(struct job *j, const struct dan_rm_report *r, struct dan_err *e)
{
    struct dan_str out = {0};
    json_t *js = j->cli->json ? reward_report_json(r) : NULL;
    if (js) {
        json_object_set_new(js, "model", json_string(j->o->model));
        return dan_out_json(&j->cli->ui, js, e);
    }
    reward_report_text(r, "pairs", j->cli->ui.out_colour, &out);
    int rc = out.failed || j->cli->json ? dan_fail(e, DAN_ENOMEM, "not enough memory for the report") : dan_out(&j->cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int eval(struct job *j, struct dan_err *e)
{
    struct dan_ranked d = {0};
    struct dan_rm_report r;
    int rc = open_job(j, e);
    struct dan_sft_data_opts so = dan_rm_data_opts(&j->s);
    if (!rc) rc = dan_ranked_read(j->o->data.v, j->o->data.n, &so, &d, e);
    if (rc) return rc;
    reward_tell_skipped(&j->cli->ui, &d.rows);
    if (j->o->shuffle) dan_ranked_shuffle(&d, (uint64_t)j->cli->seed);
    double *reward = dan_malloc((d.rows.n + 1) * sizeof *reward);
    rc = reward ? score_all(j, d.rows.v, d.rows.n, reward, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    if (!rc) rc = dan_rm_judge(&d, reward, (uint64_t)j->cli->seed, &r, e);
    if (!rc) rc = print_report(j, &r, e);
    if (!rc && !j->o->shuffle) reward_report_warn(&r, &j->cli->ui);
    dan_free(reward);
    dan_ranked_release(&d);
    return rc;
}

static int run_eval(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct job j = {.o = opts, .cli = cli};
    int rc = eval(&j, e);
    close_job(&j);
    return rc;
}

const struct dan_cmd reward_cmd_eval = {
    .name = "eval", .doc = "accuracy, calibration and bias of a reward model on preference data", .example = "danlu reward eval runs/reward --data pairs.jsonl",
    .opts = eval_options, .opts_bytes = sizeof(struct score_opts), .run = run_eval};

/* ---- score ---- */

struct scoring {
    struct job *j;
    struct dan_sft_data rows;                  /* answers that wait for their score; told and counts: what was skipped */
    size_t *first;                             /* [n + 1]: the first answer of each row of the data */
    bool   *pair;
    size_t  n, first_cap, pair_cap;
};

/* A dialogue's answer is its last message. */
static int split(struct dan_example *ex, json_t **kept, struct dan_err *e)
{
    size_t n = json_array_size(ex->messages);
    *kept = NULL;
    if (ex->kind != DAN_EXAMPLE_CHAT) return DAN_OK;
    json_t *last = json_array_get(ex->messages, n - 1), *role = json_object_get(last, "role");
    if (n < 2 || !json_is_string(role) || strcmp(json_string_value(role), "assistant"))
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' does not end with an answer of the assistant to a prompt", (long long)ex->line, ex->file);
    json_t *prompt = json_copy(ex->messages);
    *kept = json_pack("{s:[[O]],s:o}", "answers", last, "messages", prompt);
    if (!*kept || json_array_remove(prompt, n - 1)) return dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    ex->messages = prompt;
    ex->answers = json_object_get(*kept, "answers");
    return DAN_OK;
}

static int take_answers(struct scoring *s, const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e)
{
    struct dan_sft_data_opts so = dan_rm_data_opts(&s->j->s);
    size_t n = json_array_size(ex->answers), before = s->rows.n;
    int rc = DAN_OK;
    *skip = DAN_SKIP_OTHER_KIND;
    if (!n) return dan_fail(e, DAN_EINVAL, "line %lld of '%s' is a %s: expected a prompt with one or more answers", (long long)ex->line, ex->file, dan_example_kind_name(ex->kind));
    if (dan_vec_grow(&s->first, &s->first_cap, s->n + 2, sizeof *s->first) || dan_vec_grow(&s->pair, &s->pair_cap, s->n + 1, sizeof *s->pair))
        return dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t k = 0; k < n && !rc; k++) {
        struct dan_sft_row row;
        rc = dan_valued_row(ex, k, true, &so, &row, skip, e);
        if (!rc) rc = dan_sft_data_add(&s->rows, &row, e);
    }
    if (rc) while (s->rows.n > before) dan_sft_row_release(&s->rows.v[--s->rows.n]);
    if (rc) return rc;
    s->pair[s->n] = ex->kind == DAN_EXAMPLE_PAIR;
    s->first[s->n++] = before;
    s->first[s->n] = s->rows.n;
    return DAN_OK;
}

static int add_example(struct scoring *s, struct dan_example ex, enum dan_skip *skip, struct dan_err *e)
{
    json_t *kept = NULL;
    *skip = DAN_SKIP_OTHER_KIND;
    int rc = split(&ex, &kept, e);
    if (!rc) rc = take_answers(s, &ex, skip, e);
    json_decref(kept);
    return rc;
}

static int print_row(struct scoring *s, size_t k, const double *reward, struct dan_err *e)
{
    const struct dan_sft_row *r = &s->rows.v[s->first[k]];
    size_t n = s->first[k + 1] - s->first[k];
    const double *x = reward + s->first[k];
    if (!s->j->cli->json) {
        struct dan_str out = {0};
        dan_str_printf(&out, "%lld", (long long)r->line);
        for (size_t i = 0; i < n; i++) dan_str_printf(&out, "\t%.6f", x[i]);
        dan_str_putc(&out, '\n');
        int rc = out.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for a line") : dan_out(&s->j->cli->ui, dan_str_c(&out), out.n, e);
        dan_str_release(&out);
        return rc;
    }
    json_t *j = json_pack("{s:s,s:I}", "file", r->file, "line", (json_int_t)r->line), *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_real(x[i]));
    if (s->pair[k]) json_object_set_new(j, "chosen", json_real(x[0])), json_object_set_new(j, "rejected", json_real(x[1]));
    else if (n == 1) json_object_set_new(j, "reward", json_real(x[0]));
    else json_object_set(j, "rewards", list);
    json_decref(list);
    return dan_out_json(&s->j->cli->ui, j, e);
}

/* Scores and prints what waits. */
static int flush(struct scoring *s, struct dan_err *e)
{
    size_t n = s->rows.n;
    const struct dan_sft_row **row = dan_malloc((n + 1) * sizeof *row);
    double *reward = dan_malloc((n + 1) * sizeof *reward);
    int rc = row && reward ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t i = 0; i < n && !rc; i++) row[i] = &s->rows.v[i];
    if (!rc && n) rc = dan_rm_score(&s->j->s, row, n, reward, e);
    for (size_t k = 0; k < s->n && !rc; k++) rc = print_row(s, k, reward, e);
    for (size_t i = 0; i < n; i++) dan_sft_row_release(&s->rows.v[i]);
    s->rows.n = s->n = 0;
    dan_free(row);
    dan_free(reward);
    return rc;
}

static int take(struct scoring *s, int bad, const struct dan_example *ex, struct dan_err *why, struct dan_err *e)
{
    enum dan_skip skip = DAN_SKIP_BAD_ROW;
    s->rows.rows++;
    if (!bad) bad = add_example(s, *ex, &skip, why);
    if (bad == DAN_ENOMEM) return dan_fail(e, bad, "%s", why->msg);
    if (bad) dan_sft_data_skip(&s->rows, skip, why->msg);
    if (s->j->cli->stop) return interrupted(e);
    return s->rows.n >= GROUP ? flush(s, e) : DAN_OK;
}

static int score_files(struct scoring *s, struct dan_err *e)
{
    struct dan_examples *x = NULL;
    bool more = true;
    int rc = dan_examples_open(s->j->o->data.v, s->j->o->data.n, &x, e);
    s->j->cli->ui.heeds = 1;
    while (!rc) {
        struct dan_err why = {0};
        struct dan_example ex;
        int bad = dan_examples_next(x, &ex, &more, &why);
        if (!more) {
            if (bad) rc = dan_fail(e, bad, "%s", why.msg);
            break;
        }
        rc = take(s, bad, &ex, &why, e);
    }
    if (!rc) rc = flush(s, e);                 /* names of files live as long as x */
    dan_examples_free(x);
    return rc;
}

static int line_of_stdin(struct scoring *s, const char *line, size_t n, int64_t number, struct dan_err *e)
{
    struct dan_err why = {0}, whole = {0};
    struct dan_example ex = {0};
    json_t *row = NULL;
    int bad = dan_json_parse("standard input", line, n, DAN_JSON_MAX_DEPTH, &row, &why);
    if (!bad) bad = dan_example_from(row, &ex, &why);
    if (bad) dan_fail(&whole, bad, "line %lld of standard input: %s", (long long)number, why.msg);
    ex.file = "standard input";
    ex.line = number;
    int rc = take(s, bad, &ex, bad ? &whole : &why, e);
    dan_example_release(&ex);
    json_decref(row);
    return rc;
}

static int score_stdin(struct scoring *s, struct dan_err *e)
{
    char *text = NULL;
    size_t n = 0, at = 0;
    int64_t number = 0;
    int rc = dan_read_file("/dev/stdin", &text, &n, e);
    while (!rc && at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t k = end ? (size_t)(end - text) - at : n - at;
        number++;
        if (strspn(text + at, " \t\r") < k) rc = line_of_stdin(s, text + at, k, number, e);
        at += k + 1;
    }
    if (!rc) rc = flush(s, e);
    dan_free(text);
    return rc;
}

static int run_score(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct job j = {.o = opts, .cli = cli};
    struct scoring s = {.j = &j};
    bool from_stdin = j.o->data.n == 1 && !strcmp(j.o->data.v[0], "-");
    int rc = open_job(&j, e);
    if (!rc) rc = from_stdin ? score_stdin(&s, e) : score_files(&s, e);
    reward_tell_skipped(&cli->ui, &s.rows);
    int64_t skipped = 0;
    for (int k = 0; k < DAN_N_SKIPS; k++) skipped += s.rows.skipped[k];
    if (!rc && s.rows.rows && skipped == s.rows.rows) rc = dan_fail(e, DAN_EFORMAT, "none of %lld rows has an answer that can be scored", (long long)s.rows.rows);
    dan_sft_data_release(&s.rows);
    dan_free(s.first);
    dan_free(s.pair);
    close_job(&j);
    return rc;
}

const struct dan_cmd reward_cmd_score = {
    .name = "score", .doc = "what a reward model says of answers", .example = "danlu reward score runs/reward --data answers.jsonl",
    .about = "One line for each row: its line number and the score of each of its answers (a pair: chosen, rejected), separated by tabs; with --json an object a line.",
    .opts = score_options, .opts_bytes = sizeof(struct score_opts), .run = run_score};
