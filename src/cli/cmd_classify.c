/* danlu classify: texts, pairs of texts, or their tokens, by the classification head of an encoder. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/encoder_texts.h"
#include "cli/lm_open.h"
#include "exec/precision.h"
#include "io/hf_labels.h"
#include "io/json.h"

enum { GROUP = 4096 };                         /* texts between two looks at Ctrl-C and the bar */
struct classify_opts { const char *model, *data, *dtype; struct dan_strings text; bool pair; int64_t top; };

#define AT(f) offsetof(struct classify_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL",
     .help = "folder of a BERT, DistilBERT, RoBERTa or XLM-R model with a classification head"},
    {.name = "text", .type = 'R', .offset = AT(text), .meta = "TEXT", .help = "texts to classify"},
    {.name = "data", .type = 's', .offset = AT(data), .meta = "FILE", .alias = "file", .help = "texts, one a line, instead of arguments (-: standard input)"},
    {.name = "pair", .type = 'b', .offset = AT(pair), .alias = "text-pair", .help = "each text is two, with a tab between them"},
    {.name = "top", .letter = 'k', .type = 'i', .offset = AT(top), .dflt = "1", .meta = "N", .min = 0, .max = 1 << 20, .alias = "top-k",
     .help = "classes to show, likeliest first (0: all)"},
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "f32", .choices = "f32|bf16|auto", .section = "Machine",
     .help = "of matrix products; auto: bf16 where the CPU has it"},
    {.name = NULL}};

struct job {
    const struct classify_opts *o;
    struct dan_cli *cli;
    struct enc_files m;
    struct enc_texts x;
    struct dan_hf_labels labels;
    struct dan_encode *run;
    float  *scores;                            /* [texts, K], or [tokens, K] */
    int32_t *order;                            /* [K] */
};

static enum dan_prec precision(const struct job *j) { return dan_prec_of(j->o->dtype, dan_isa_mask(j->cli->isa)); }

static int open_model(struct job *j, struct dan_err *e)
{
    int rc = enc_open(j->cli, j->o->model, precision(j), &j->m, e);
    if (rc) return rc;
    struct dan_encode_opts o = {.pooling = j->m.enc.tagger ? DAN_POOL_TAGS : DAN_POOL_CLASSES, .prec = precision(j), .pool = j->m.pool,
                                .cpu_mask = dan_isa_mask(j->cli->isa)};
    rc = dan_encode_new(&j->m.enc, &o, &j->run, e);
    return rc ? rc : dan_hf_labels_load(j->o->model, j->m.enc.cfg.labels, &j->labels, e);
}

/* x[K]: logits become probabilities, as problem_type says. */
static void settle(const struct dan_hf_labels *l, float *x)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < l->n; i++) top = fmax(top, (double)x[i]);
    for (int64_t i = 0; i < l->n; i++) sum += exp((double)x[i] - top);
    for (int64_t i = 0; i < l->n && l->problem != DAN_PROBLEM_NUMBER; i++)
        x[i] = (float)(l->problem == DAN_PROBLEM_ONE ? exp((double)x[i] - top) / sum : 1 / (1 + exp(-(double)x[i])));
}

static int compute(struct job *j, struct dan_err *e)
{
    bool tokens = j->m.enc.tagger;
    size_t k = (size_t)j->labels.n, rows = tokens ? j->x.ids.n : j->x.n;
    struct dan_bar bar;
    int rc = DAN_OK;
    j->scores = dan_calloc(rows + 1, k * sizeof *j->scores);
    j->order = dan_calloc(k + 1, sizeof *j->order);
    if (!j->scores || !j->order) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu x %zu scores; classify in parts", rows, k);
    dan_bar_start(&bar, &j->cli->ui, "classify", "token", 0, (int64_t)j->x.ids.n);
    for (size_t i = 0; i < j->x.n && !rc; i += GROUP) {
        struct dan_sentences s = enc_sentences(&j->x);
        s.start += i;
        s.n = (int64_t)(j->x.n - i < GROUP ? j->x.n - i : GROUP);
        rc = dan_encode_run(j->run, &s, j->scores + (tokens ? (size_t)j->x.start[i] : i) * k, e);
        if (!rc) dan_bar_update(&bar, s.start[s.n], "%s", "");
        if (!rc && j->cli->stop) rc = dan_fail(e, DAN_ECANCELLED, "interrupted; nothing was written");
    }
    dan_bar_finish(&bar);
    for (size_t r = 0; r < rows && !rc; r++) settle(&j->labels, j->scores + r * k);
    return rc;
}

/* order[K]: classes by score, of equal ones the lower first. */
static void sort_classes(const float *x, int64_t n, int32_t *order)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        for (; at > 0 && x[i] > x[order[at - 1]]; at--) order[at] = order[at - 1];
        order[at] = (int32_t)i;
    }
}

static json_t *label_json(const struct job *j, int32_t k) { return dan_json_string_of(j->labels.name[k], strlen(j->labels.name[k])); }

/* {"label", "score"} of the best; with --top also all of them. */
static json_t *answer_json(const struct job *j, const float *x)
{
    int64_t top = j->o->top && j->o->top < j->labels.n ? j->o->top : j->labels.n;
    json_t *o = json_pack("{s:o,s:f}", "label", label_json(j, j->order[0]), "score", (double)x[j->order[0]]);
    if (top == 1) return o;
    json_t *list = json_array();
    for (int64_t i = 0; i < top; i++)
        json_array_append_new(list, json_pack("{s:o,s:f}", "label", label_json(j, j->order[i]), "score", (double)x[j->order[i]]));
    json_object_set_new(o, "scores", list);
    return o;
}

static void answer_text(const struct job *j, const float *x, struct dan_str *s)
{
    int64_t top = j->o->top && j->o->top < j->labels.n ? j->o->top : j->labels.n;
    for (int64_t i = 0; i < top; i++)
        dan_str_printf(s, "%s%s\t%.6f", i ? "\t" : "", j->labels.name[j->order[i]], (double)x[j->order[i]]);
    dan_str_puts(s, "\n");
}

/* One token of a text: its text, then the answer. */
static void put_token(const struct job *j, int64_t at, struct dan_str *s, json_t *list)
{
    struct dan_str token = {0};
    const float *x = j->scores + at * j->labels.n;
    sort_classes(x, j->labels.n, j->order);
    dan_tokenizer_decode(j->m.tok, &j->x.ids.v[at], 1, &token);
    if (j->cli->json) {
        json_t *o = answer_json(j, x);
        json_object_set_new(o, "token", dan_json_string_of(dan_str_c(&token), token.n));
        json_array_append_new(list, o);
    } else {
        dan_str_printf(s, "%s\t", dan_str_c(&token));
        answer_text(j, x, s);
    }
    dan_str_release(&token);
}

static int print_tokens(struct job *j, size_t i, struct dan_err *e)
{
    const struct dan_ids *before = dan_tokenizer_before(j->m.tok), *after = dan_tokenizer_after(j->m.tok);
    struct dan_str s = {0};
    json_t *list = json_array();
    for (int64_t k = j->x.start[i] + (int64_t)before->n; k < j->x.start[i + 1] - (int64_t)after->n; k++) put_token(j, k, &s, list);
    int rc = s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a result") : DAN_OK;
    if (!rc && j->cli->json) rc = dan_out_json(&j->cli->ui, json_pack("{s:I,s:O}", "index", (json_int_t)i, "tokens", list), e);
    if (!rc && !j->cli->json && i) rc = dan_out(&j->cli->ui, "\n", 1, e);
    if (!rc && !j->cli->json) rc = dan_out(&j->cli->ui, dan_str_c(&s), s.n, e);
    json_decref(list);
    dan_str_release(&s);
    return rc;
}

static int print_text(struct job *j, size_t i, struct dan_err *e)
{
    const float *x = j->scores + i * (size_t)j->labels.n;
    struct dan_str s = {0};
    sort_classes(x, j->labels.n, j->order);
    if (j->cli->json) {
        json_t *o = answer_json(j, x);
        json_object_set_new(o, "index", json_integer((json_int_t)i));
        return dan_out_json(&j->cli->ui, o, e);
    }
    answer_text(j, x, &s);
    int rc = s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a result") : dan_out(&j->cli->ui, s.p, s.n, e);
    dan_str_release(&s);
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct job j = {.o = opts, .cli = cli};
    int rc = open_model(&j, e);
    if (!rc) rc = enc_read(cli, &j.o->text, j.o->data, &j.x, e);
    if (!rc) rc = enc_encode(&j.m, &j.x, j.o->pair, 0, e);
    if (!rc && j.x.cut) dan_warn(&cli->ui, "%lld of %zu texts are longer than the model takes and were cut", (long long)j.x.cut, j.x.n);
    if (!rc) rc = compute(&j, e);
    for (size_t i = 0; i < j.x.n && !rc; i++) rc = j.m.enc.tagger ? print_tokens(&j, i, e) : print_text(&j, i, e);
    dan_free(j.scores);
    dan_free(j.order);
    dan_encode_free(j.run);
    dan_hf_labels_release(&j.labels);
    enc_texts_release(&j.x);
    enc_close(&j.m);
    return rc;
}

const struct dan_cmd dan_cmd_classify = {
    .name = "classify", .doc = "classify texts with a fine-tuned encoder", .group = DAN_GROUP_USE, .rank = 6,
    .about = "Each text gives a line: its likeliest class and the probability (softmax; sigmoid where each class stands for itself; the number "
             "itself for regression), as id2label and problem_type in config.json say. A model for tokens gives a line for each token. With "
             "--json one object for each text.",
    .example = "danlu classify distilbert-base-uncased-finetuned-sst-2-english \"I love this kettle\" --json\n"
               "printf 'a man sleeps\\ta man is awake\\n' | danlu classify roberta-large-mnli --pair --top 0",
    .opts = options, .opts_bytes = sizeof(struct classify_opts), .run = run};
