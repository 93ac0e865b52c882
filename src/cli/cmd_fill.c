/* danlu fill: the likeliest tokens for the masks of a text, by a masked language model. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/encoder_texts.h"
#include "cli/lm_open.h"
#include "io/json.h"

struct fill_opts { const char *model, *data; struct dan_strings text; int64_t top; };

#define AT(f) offsetof(struct fill_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL",
     .help = "folder of a BERT, DistilBERT, RoBERTa or XLM-R model with its masked-LM head"},
    {.name = "text", .type = 'R', .offset = AT(text), .meta = "TEXT", .help = "text with [MASK] where a token is wanted"},
    {.name = "data", .type = 's', .offset = AT(data), .meta = "FILE", .alias = "file", .help = "texts, one a line, instead of arguments (-: standard input)"},
    {.name = "top", .letter = 'k', .type = 'i', .offset = AT(top), .dflt = "5", .meta = "N", .min = 1, .max = 10000, .alias = "top-k",
     .help = "tokens to show for each mask"},
    {.name = NULL}};

static const char *const marks[] = {"[MASK]", "<mask>"};
enum { N_MARKS = sizeof marks / sizeof *marks };

struct job {
    const struct fill_opts *o;
    struct dan_cli *cli;
    struct enc_files m;
    struct enc_texts x;
    struct dan_str written;                    /* all texts with the model's own mark */
    const char *mark;
    int32_t mask;
    float  *logits;                            /* [masks, V] */
};

static int find_mask(struct job *j, struct dan_err *e)
{
    for (int i = 0; i < N_MARKS; i++) {
        int32_t id = dan_tokenizer_find_special(j->m.tok, marks[i]);
        if (id < 1) continue;
        j->mask = id;
        j->mark = marks[i];
        return DAN_OK;
    }
    return dan_fail(e, DAN_EINVAL, "the tokenizer of '%s' has neither [MASK] nor <mask>; is it that of a masked language model?", j->o->model);
}

/* The text with either mark as the model's. */
static size_t put_marked(struct job *j, const char *p, size_t n)
{
    size_t masks = 0;
    for (size_t i = 0; i < n;) {
        size_t mark = 0;
        for (int k = 0; k < N_MARKS && !mark; k++)
            if (n - i >= strlen(marks[k]) && memcmp(p + i, marks[k], strlen(marks[k])) == 0) mark = strlen(marks[k]);
        if (mark) dan_str_puts(&j->written, j->mark);
        else dan_str_append(&j->written, p + i, 1);
        masks += mark > 0;
        i += mark ? mark : 1;
    }
    return masks;
}

static int mark_texts(struct job *j, struct dan_err *e)
{
    for (size_t i = 0; i < j->x.n; i++) {
        size_t from = j->written.n;
        if (!put_marked(j, j->x.text[i].p, j->x.text[i].n))
            return dan_fail(e, DAN_EINVAL, "text %zu has no [MASK]; write it where a token is wanted", i + 1);
        j->x.text[i] = (struct enc_text){NULL, j->written.n - from};
    }
    if (j->written.failed) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu texts", j->x.n);
    for (size_t i = 0, at = 0; i < j->x.n; at += j->x.text[i++].n) j->x.text[i].p = j->written.p + at;
    return DAN_OK;
}

/* A text may ask for the mask and for nothing else. */
static int check_control(const struct job *j, struct dan_err *e)
{
    const struct dan_ids *before = dan_tokenizer_before(j->m.tok), *after = dan_tokenizer_after(j->m.tok);
    for (size_t i = 0; i < j->x.n; i++)
        for (int64_t k = j->x.start[i] + (int64_t)before->n; k < j->x.start[i + 1] - (int64_t)after->n; k++) {
            size_t n;
            const char *p = dan_tokenizer_token(j->m.tok, j->x.ids.v[k], &n);
            if (j->x.ids.v[k] == j->mask || j->x.ids.v[k] == dan_tokenizer_unk(j->m.tok) || !dan_tokenizer_is_special(j->m.tok, j->x.ids.v[k])) continue;
            return dan_fail(e, DAN_EINVAL, "text %zu has the control token '%.*s'; write it apart, or leave it out", i + 1, (int)n, p ? p : "");
        }
    return DAN_OK;
}

static int compute(struct job *j, struct dan_err *e)
{
    struct dan_encode_opts o = {.pooling = DAN_POOL_WORDS, .mask = j->mask, .pool = j->m.pool, .max_rows = 1, .cpu_mask = dan_isa_mask(j->cli->isa)};
    struct dan_sentences s = enc_sentences(&j->x);
    struct dan_encode *run = NULL;
    size_t masks = 0;
    for (size_t i = 0; i < j->x.ids.n; i++) masks += j->x.ids.v[i] == j->mask;
    int rc = dan_encode_new(&j->m.enc, &o, &run, e);
    if (!rc && !(j->logits = dan_calloc(masks + 1, (size_t)j->m.enc.cfg.vocab * sizeof *j->logits)))
        rc = dan_fail(e, DAN_ENOMEM, "out of memory for %zu masks; give fewer texts at a time", masks);
    if (!rc) rc = dan_encode_run(run, &s, j->logits, e);
    dan_encode_free(run);
    return rc;
}

/* The `top` largest of v[n], largest first; of equal ones the lower id. */
static void largest(const float *v, int64_t n, int64_t top, int32_t *id)
{
    int64_t have = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = have < top ? have : top - 1;
        if (have == top && !(v[i] > v[id[at]])) continue;
        for (; at > 0 && v[i] > v[id[at - 1]]; at--) id[at] = id[at - 1];
        id[at] = (int32_t)i;
        have += have < top;
    }
}

static int print_mask(struct job *j, size_t text, int64_t mask, const float *v, int32_t *id, int64_t top, struct dan_err *e)
{
    int64_t n = j->m.enc.cfg.vocab;
    double sum = 0;
    struct dan_str s = {0}, token = {0};
    json_t *list = json_array();
    largest(v, n, top, id);
    for (int64_t i = 0; i < n; i++) sum += exp((double)v[i] - v[id[0]]);
    for (int64_t i = 0; i < top; i++) {
        double p = exp((double)v[id[i]] - v[id[0]]) / sum;
        dan_str_clear(&token);
        dan_tokenizer_decode(j->m.tok, &id[i], 1, &token);
        if (j->cli->json) json_array_append_new(list, json_pack("{s:i,s:o,s:f}", "id", id[i], "token", dan_json_string_of(dan_str_c(&token), token.n), "p", p));
        else dan_str_printf(&s, "%.6f\t%s\n", p, dan_str_c(&token));
    }
    int rc = s.failed || token.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a result") : DAN_OK;
    if (!rc && j->cli->json)
        rc = dan_out_json(&j->cli->ui, json_pack("{s:I,s:I,s:O}", "index", (json_int_t)text, "mask", (json_int_t)mask, "tokens", list), e);
    else if (!rc) rc = dan_out(&j->cli->ui, dan_str_c(&s), s.n, e);
    json_decref(list);
    dan_str_release(&s);
    dan_str_release(&token);
    return rc;
}

static int print_all(struct job *j, struct dan_err *e)
{
    int64_t n = j->m.enc.cfg.vocab, top = j->o->top < n ? j->o->top : n;
    int32_t *id = dan_calloc((size_t)top, sizeof *id);
    const float *v = j->logits;
    int rc = id ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for %lld tokens", (long long)top);
    bool first = true;
    for (size_t i = 0; i < j->x.n && !rc; i++) {
        int64_t mask = 0;
        for (int64_t k = j->x.start[i]; k < j->x.start[i + 1] && !rc; k++) {
            if (j->x.ids.v[k] != j->mask) continue;
            if (!first && !j->cli->json) rc = dan_out(&j->cli->ui, "\n", 1, e);
            if (!rc) rc = print_mask(j, i, mask++, v, id, top, e);
            first = false;
            v += n;
        }
    }
    dan_free(id);
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct job j = {.o = opts, .cli = cli};
    int rc = enc_open(cli, j.o->model, DAN_PREC_F32, &j.m, e);
    if (!rc) rc = find_mask(&j, e);
    if (!rc) rc = enc_read(cli, &j.o->text, j.o->data, &j.x, e);
    if (!rc) rc = mark_texts(&j, e);
    if (!rc) rc = enc_encode(&j.m, &j.x, false, DAN_ENCODE_SPECIAL, e);
    if (!rc) rc = check_control(&j, e);
    if (!rc && j.x.cut) dan_warn(&cli->ui, "%lld of %zu texts are longer than the model takes and were cut", (long long)j.x.cut, j.x.n);
    if (!rc) rc = compute(&j, e);
    if (!rc) rc = print_all(&j, e);
    dan_free(j.logits);
    dan_str_release(&j.written);
    enc_texts_release(&j.x);
    enc_close(&j.m);
    return rc;
}

const struct dan_cmd dan_cmd_fill = {
    .name = "fill", .doc = "fill the masks of a text with the likeliest tokens", .group = DAN_GROUP_USE, .rank = 5,
    .about = "Each mask gives a block of lines, a probability and a token, likeliest first; with --json an object with \"index\" (of the text), "
             "\"mask\" (in it) and \"tokens\". The mask is written [MASK] or <mask>, whichever the model has.",
    .example = "danlu fill bert-base-uncased \"the capital of France is [MASK].\" --top 3",
    .opts = options, .opts_bytes = sizeof(struct fill_opts), .run = run};
