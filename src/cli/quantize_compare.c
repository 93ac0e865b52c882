#include "cli/quantize_compare.h"
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/threads.h"
#include "data/text.h"
#include "io/svg.h"
#include "quant/study.h"
#include "text/tokenizer.h"

enum { LAYERS = 3, HIDDEN = 96, HEADS = 4, CONTEXT = 64, BATCH = 16, STEPS = 600, MORE = 400, EVAL_BATCHES = 40, MOST_BYTES = 2 << 20 };
static const char *const schemes[] = {"w8a8", "w4", "w3", "w2", "w4a4"};
enum { SCHEMES = 5 };

struct corpus { struct dan_tokenizer *tok; struct dan_shards *train, *val; };

static int next_document(void *ctx, const char **p, size_t *n, struct dan_err *e)
{
    struct dan_document doc;
    int rc = dan_text_next(ctx, &doc, e);
    *p = rc ? NULL : doc.p;
    *n = doc.n;
    return rc;
}

/* The first MOST_BYTES of text as ids of characters, nine tenths to learn from. */
static int read_ids(struct corpus *c, struct dan_text *text, struct dan_err *e)
{
    struct dan_document doc;
    struct dan_ids ids = {0};
    size_t bytes = 0;
    int64_t zero = 0;
    int rc = DAN_OK;
    dan_text_rewind(text);
    while (!rc && bytes < MOST_BYTES && !(rc = dan_text_next(text, &doc, e)) && doc.p) {
        size_t n = doc.n < MOST_BYTES - bytes ? doc.n : MOST_BYTES - bytes;
        while (n > 0 && n < doc.n && (doc.p[n] & 0xc0) == 0x80) n--;
        rc = dan_tokenizer_encode(c->tok, doc.p, n, 0, &ids, e);
        bytes += n;
    }
    int64_t n = (int64_t)ids.n, held = n / 10;
    if (!rc && n < 20000) rc = dan_fail(e, DAN_EINVAL, "%lld characters are too few to compare on: give at least 20,000", (long long)n);
    if (!rc) rc = dan_shards_of(ids.v, n - held, &zero, 1, -1, &c->train, e);
    if (!rc) rc = dan_shards_of(ids.v + n - held, held, &zero, 1, -1, &c->val, e);
    dan_ids_release(&ids);
    return rc;
}

static int open_corpus(struct corpus *c, const struct dan_strings *data, struct dan_err *e)
{
    struct dan_text *text = NULL;
    struct dan_tok_train_opts o = {0};
    struct dan_tok_train_stats stats;
    if (!data->n) return dan_fail(e, DAN_EUSAGE, "--compare trains small models: give it text with --data FILE");
    int rc = dan_text_open(data->v, data->n, NULL, &text, e);
    if (!rc) rc = dan_tokenizer_train_char(&(struct dan_text_source){.next = next_document, .ctx = text}, &o, &c->tok, &stats, e);
    if (!rc) rc = read_ids(c, text, e);
    dan_text_free(text);
    return rc;
}

static bool on_progress(void *ctx, int64_t done, int64_t total, const char *what)
{
    struct dan_bar *b = ctx;
    b->total = total;
    dan_bar_update(b, done, "%s", what);
    return true;
}

/* "1.6512 ±0.004", with the share won back behind it where there is one. */
static void cell(const struct dan_study *s, const char *part, const char *method, const char *scheme, char *out, size_t n)
{
    const struct dan_study_row *r = dan_study_find(s, part, method, scheme);
    double least, share;
    *out = 0;
    if (!r) return;
    struct dan_study_mean m = dan_study_mean_of(s, r);
    if (isnan(m.mean)) {
        snprintf(out, n, "failed");
        return;
    }
    share = strncmp(method, "PTQ nearest", 11) ? dan_study_recovered(s, part, method, scheme, &least) : NAN;
    if (isnan(share)) snprintf(out, n, "%.4f ±%.4f", m.mean, m.half_range);
    else snprintf(out, n, "%.4f ±%.4f (%.0f %%)", m.mean, m.half_range, 100 * share);
}

static bool seen(const struct dan_study *s, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (!strcmp(s->v[k].method, s->v[i].method) && !strcmp(s->v[k].part, s->v[i].part)) return true;
    return false;
}

static void add_part(const struct dan_study *s, const char *part, struct dan_table *t)
{
    for (size_t i = 0; i < s->n; i++) {
        char text[SCHEMES][64];
        const char *row[SCHEMES + 1] = {s->v[i].method};
        if (strcmp(s->v[i].part, part) || seen(s, i)) continue;
        bool whole = !*s->v[i].scheme;
        for (int k = 0; k < SCHEMES; k++) {
            cell(s, part, s->v[i].method, whole ? (k ? "-" : "") : schemes[k], text[k], sizeof text[k]);
            row[k + 1] = text[k];
        }
        dan_table_row(t, row);
    }
}

static void print_part(struct dan_ui *ui, const struct dan_study *s, const char *part, struct dan_str *out)
{
    static const char *const headers[] = {"method", "W8A8", "W4", "W3", "W2", "W4A4"};
    struct dan_table t;
    dan_table_init(&t, "llllll", headers);
    add_part(s, part, &t);
    dan_table_print(&t, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, out);
    dan_table_release(&t);
}

static json_t *as_json(const struct dan_study *s)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_study_row *r = &s->v[i];
        struct dan_study_mean m = dan_study_mean_of(s, r);
        double least, share = dan_study_recovered(s, r->part, r->method, r->scheme, &least);
        json_t *losses = json_array(), *j;
        for (int k = 0; k < s->seeds; k++) json_array_append_new(losses, isfinite(r->loss[k]) ? json_real(r->loss[k]) : json_null());
        j = json_pack("{s:s,s:s,s:s,s:f,s:o}", "part", r->part, "method", r->method, "scheme", r->scheme, "bits", r->bits, "losses", losses);
        if (isfinite(m.mean)) json_object_set_new(j, "mean", json_real(m.mean));
        if (isfinite(m.mean)) json_object_set_new(j, "half_range", json_real(m.half_range));
        if (isfinite(share)) json_object_set_new(j, "recovered", json_real(share));
        if (isfinite(share)) json_object_set_new(j, "recovered_least", json_real(least));
        json_array_append_new(rows, j);
    }
    return json_pack("{s:i,s:I,s:I,s:o}", "seeds", s->seeds, "parameters", (json_int_t)s->params, "validation_tokens", (json_int_t)s->tokens, "rows", rows);
}

/* Loss over bits of weights alone, a line a method. */
static int draw(const struct dan_study *s, const char *path, struct dan_err *e)
{
    static const char *const of[] = {"PTQ nearest", "PTQ gptq", "QAT ste", "QAT lsq", "QAT dsq"};
    double x[5][3], y[5][3];
    struct dan_svg_series series[5];
    size_t n = 0;
    for (int m = 0; m < 5; m++) {
        size_t k = 0;
        for (int b = 1; b <= 3; b++) {
            const struct dan_study_row *r = dan_study_find(s, "", of[m], schemes[b]);
            if (!r || !isfinite(dan_study_mean_of(s, r).mean)) continue;
            x[m][k] = 5 - b;
            y[m][k++] = dan_study_mean_of(s, r).mean;
        }
        if (k) series[n++] = (struct dan_svg_series){of[m], x[m], y[m], k};
    }
    return dan_svg_write(path, "quantised weights, groups of 32: validation loss", "bits a weight", "loss (nats per character)", series, n, e);
}

static int report(struct dan_cli *cli, const struct quantize_compare *o, const struct dan_study *s, struct dan_err *e)
{
    struct dan_str out = {0};
    int rc = o->svg ? draw(s, o->svg, e) : DAN_OK;
    if (rc) return rc;
    if (cli->json) return dan_out_json(&cli->ui, as_json(s), e);
    dan_str_printf(&out, "validation loss in nats per character, mean of %d seeds ± half the range; in brackets the share won back of what PTQ nearest loses;\n"
                   "inputs: W8A8 a scale for every token, W4A4 one for all, found on data or (pact, lsq, dsq) learned\n", s->seeds);
    print_part(&cli->ui, s, "", &out);
    dan_str_printf(&out, "\none channel of every norm times 64, the weights behind it divided (the float model is the same); activations with one scale\n");
    print_part(&cli->ui, s, "outlier", &out);
    rc = out.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the table") : dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

int quantize_compare(struct dan_cli *cli, const struct quantize_compare *o, struct dan_err *e)
{
    struct corpus c = {0};
    struct dan_study s = {0};
    struct dan_pool *pool = NULL;
    struct dan_bar bar;
    int rc = open_corpus(&c, &o->data, e);
    if (!rc) rc = dan_pool_new((int)cli->threads, &pool, e);
    struct dan_study_opts so = {.model = dan_model_find("llama"), .train = c.train, .val = c.val, .seeds = (int)o->seeds, .seed = (uint64_t)cli->seed,
                                .base_steps = o->steps ? o->steps : STEPS, .more_steps = o->more ? o->more : MORE, .batch = BATCH, .eval_batches = EVAL_BATCHES,
                                .lr = 3e-3, .pool = pool, .progress = on_progress, .ctx = &bar};
    if (!rc) so.cfg = (struct dan_lm_config){.vocab = dan_tokenizer_vocab_size(c.tok), .context = CONTEXT, .hidden = HIDDEN, .layers = LAYERS, .heads = HEADS,
                                             .tied = true, .bos = -1, .eos = -1, .pad = -1};
    if (!rc) {
        dan_bar_start(&bar, &cli->ui, "compare", "step", 0, 1);
        cli->ui.heeds = 0;                     /* nothing is written before the end: a signal ends it at once */
        rc = dan_study_run(&so, &s, e);
        dan_bar_finish(&bar);
    }
    if (!rc) rc = report(cli, o, &s, e);
    dan_study_release(&s);
    dan_pool_free(pool);
    dan_shards_free(c.train);
    dan_shards_free(c.val);
    dan_tokenizer_free(c.tok);
    return rc;
}
