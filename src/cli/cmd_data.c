/* danlu data: what fine-tuning would see. */
#include <stdlib.h>
#include <string.h>
#include "align/pairs.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/lm_open.h"

struct inspect_opts { const char *model, *template, *learn; struct dan_strings data; int64_t context, rows; };

#define AT(f) offsetof(struct inspect_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model whose tokenizer and template are used"},
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .required = true, .help = ".jsonl or .json files or folders: dialogues or preference pairs"},
    {.name = "template", .type = 's', .offset = AT(template), .meta = "NAME|FILE", .alias = "chat-template", .help = "chat template (default: the model's, else a built-in one)"},
    {.name = "learn", .type = 'e', .offset = AT(learn), .dflt = "all", .choices = "all|last", .help = "turns that are learnt"},
    {.name = "context", .type = 'i', .offset = AT(context), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20, .help = "longest dialogue in tokens (0: the model's context)"},
    {.name = "rows", .letter = 'n', .type = 'i', .offset = AT(rows), .dflt = "3", .meta = "N", .min = 0, .max = 1e9, .help = "sequences to show"},
    {.name = NULL}};

struct look { struct dan_cli *cli; const struct inspect_opts *o; struct lm_files m; struct dan_chat_template chat; struct dan_sft_data data; bool pairs; };

static int read_data(struct look *l, struct dan_err *e)
{
    struct dan_sft_data_opts so = {.tok = l->m.tok, .chat = &l->chat, .longest = l->o->context ? l->o->context : l->m.lm.cfg.context,
                                   .learn = strcmp(l->o->learn, "last") ? DAN_LEARN_ALL : DAN_LEARN_LAST, .has_now = true, .now = dan_unix_time()};
    struct dan_err why = {0}, ignored = {0};
    int rc = dan_sft_data_read(l->o->data.v, l->o->data.n, &so, &l->data, &why);
    if (rc && !dan_pairs_read(l->o->data.v, l->o->data.n, &so, &l->data, &ignored)) {
        l->pairs = true;
        return DAN_OK;
    }
    return rc ? dan_fail(e, rc, "%s", why.msg) : DAN_OK;
}

/* Runs of ids of one kind, learnt ones in green or, without colour, in brackets; \n stays visible. */
static void show_row(const struct look *l, const struct dan_sft_row *r, const char *which, struct dan_str *out)
{
    bool colour = l->cli->ui.out_colour;
    struct dan_str text = {0};
    dan_str_printf(out, "%s line %lld%s: %lld tokens, %lld learnt\n", r->file, (long long)r->line, which, (long long)r->n, (long long)r->learnt);
    for (int64_t i = 0, end; i < r->n; i = end) {
        for (end = i + 1; end < r->n && r->learn[end] == r->learn[i];) end++;
        dan_str_clear(&text);
        dan_tokenizer_decode(l->m.tok, r->ids + i, (size_t)(end - i), &text);
        if (r->learn[i]) dan_str_puts(out, colour ? "\x1b[32m" : "[[");
        for (size_t k = 0; k < text.n; k++) {
            if (text.p[k] == '\n') dan_str_puts(out, "\\n");
            else dan_str_putc(out, text.p[k]);
        }
        if (r->learn[i]) dan_str_puts(out, colour ? "\x1b[0m" : "]]");
    }
    dan_str_puts(out, "\n\n");
    dan_str_release(&text);
}

static int by_length(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

struct lengths { int64_t least, median, p95, most; };

static int lengths_of(const struct dan_sft_data *d, struct lengths *out, struct dan_err *e)
{
    int64_t *n = dan_malloc((d->n + 1) * sizeof *n);
    if (!n) return dan_fail(e, DAN_ENOMEM, "not enough memory to sort %zu lengths", d->n);
    for (size_t i = 0; i < d->n; i++) n[i] = d->v[i].n;
    qsort(n, d->n, sizeof *n, by_length);
    *out = (struct lengths){n[0], n[d->n / 2], n[d->n * 95 / 100], n[d->n - 1]};
    dan_free(n);
    return DAN_OK;
}

static const char *template_name(const struct look *l) { return l->chat.builtin ? l->chat.builtin : l->o->template ? l->o->template : "the model's own"; }

static json_t *skips(const struct dan_sft_data *d)
{
    json_t *j = json_object();
    for (int k = 0; k < DAN_N_SKIPS; k++)
        if (d->skipped[k]) json_object_set_new(j, dan_skip_name((enum dan_skip)k), json_integer(d->skipped[k]));
    return j;
}

static json_t *as_json(const struct look *l, const struct lengths *n, const struct dan_chat_traits *t)
{
    const struct dan_sft_data *d = &l->data;
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:[I,I,I,I],s:o,s:s,s:b,s:b}", "kind", l->pairs ? "pairs" : "dialogues", "rows", (json_int_t)d->rows, "sequences",
                     (json_int_t)d->n, "tokens", (json_int_t)d->ids, "learnt", (json_int_t)d->learnt, "lengths", (json_int_t)n->least, (json_int_t)n->median,
                     (json_int_t)n->p95, (json_int_t)n->most, "skipped", skips(d), "template", template_name(l), "prefix_preserving", (int)t->prefix_preserving,
                     "stop_trained", (int)t->stop_trained);
}

static void summary(const struct look *l, const struct lengths *n, const struct dan_chat_traits *t, struct dan_str *out)
{
    const struct dan_sft_data *d = &l->data;
    int64_t all = 0;
    dan_str_printf(out, "%lld rows, %zu %s, %lld tokens, %.1f %% of them learnt\n", (long long)d->rows, l->pairs ? d->n / 2 : d->n,
                   l->pairs ? "pairs" : "sequences", (long long)d->ids, 100 * (double)d->learnt / (double)d->ids);
    dan_str_printf(out, "lengths: %lld to %lld, median %lld, 95 %% below %lld\n", (long long)n->least, (long long)n->most, (long long)n->median, (long long)n->p95);
    for (int k = 0; k < DAN_N_SKIPS; k++) {
        all += d->skipped[k];
        if (d->skipped[k]) dan_str_printf(out, "skipped: %lld %s\n", (long long)d->skipped[k], dan_skip_name((enum dan_skip)k));
    }
    if (all) dan_str_append(out, d->told.p, d->told.n);
    dan_str_printf(out, "template: %s; %s; the end of a turn is %s\n", template_name(l),
                   t->prefix_preserving ? "a longer dialogue begins with a shorter one's tokens" : "a longer dialogue does not begin with a shorter one's tokens",
                   t->stop_trained ? "learnt" : "no token that is learnt: the model will not learn to stop");
}

static int report(const struct look *l, struct dan_err *e)
{
    struct dan_str out = {0};
    struct lengths n = {0};
    struct dan_chat_traits traits = {0};
    int rc = lengths_of(&l->data, &n, e);
    if (!rc) rc = dan_chat_traits_of(&l->chat, true, dan_unix_time(), &traits, e);
    if (!rc && l->cli->json) {
        rc = dan_out_json(&l->cli->ui, as_json(l, &n, &traits), e);
    } else if (!rc) {
        int64_t shown = l->o->rows * (l->pairs ? 2 : 1);
        for (int64_t i = 0; i < shown && i < (int64_t)l->data.n; i++)
            show_row(l, &l->data.v[i], !l->pairs ? "" : i % 2 ? ", rejected" : ", chosen", &out);
        summary(l, &n, &traits, &out);
        rc = out.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory to show data") : dan_out(&l->cli->ui, dan_str_c(&out), out.n, e);
    }
    dan_chat_traits_release(&traits);
    dan_str_release(&out);
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct look l = {.cli = cli, .o = opts};
    int rc = lm_open(cli, l.o->model, true, &l.m, e);
    if (!rc) rc = dan_chat_template_open(&l.chat, l.m.tok, l.o->template, &l.m.prefix, e);
    if (!rc) rc = read_data(&l, e);
    if (!rc) rc = report(&l, e);
    dan_sft_data_release(&l.data);
    dan_chat_template_release(&l.chat);
    lm_close(&l.m);
    return rc;
}

static const struct dan_cmd inspect = {
    .name = "inspect", .doc = "what fine-tuning sees: tokens that are learnt and not, lengths, skipped rows",
    .about = "Rows through the model's template and tokenizer, as 'danlu finetune' and 'danlu dpo' take them. Learnt tokens are green, or stand in [[ ]] where\n"
             "there is no colour.",
    .example = "danlu data inspect runs/book --data chats.jsonl", .opts = options, .opts_bytes = sizeof(struct inspect_opts), .run = run};

static const struct dan_cmd *const commands[] = {&inspect, NULL};

const struct dan_cmd dan_cmd_data = {.name = "data", .doc = "look at fine-tuning data", .group = DAN_GROUP_DATA, .sub = commands};
