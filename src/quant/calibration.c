#include "quant/calibration.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "data/text.h"

enum { SEQUENCES = 128, LENGTH = 512, FEWEST = 64, BLOCK = 1 << 18, BYTES_PER_TOKEN = 16, ENOUGH = 4096 };

/* Of everything that comes the part `each`, in windows that lie evenly apart: what begins in one is taken, be it long or short. */
struct share { double each, window, at; };

static bool take(struct share *s, double size)
{
    bool in = fmod(s->at, s->window / s->each) < s->window;
    s->at += size;
    return in;
}

struct reading {
    const struct dan_tokenizer *tok;
    struct dan_calibration_opts o;
    struct dan_ids ids;                        /* of blocks of text */
    int64_t *start;                            /* of blocks */
    size_t n_blocks, cap;
    int64_t bytes;                             /* encoded */
    struct share blocks;
};

static int begin_block(struct reading *r, struct dan_err *e)
{
    if (dan_vec_grow(&r->start, &r->cap, r->n_blocks + 2, sizeof *r->start))
        return dan_fail(e, DAN_ENOMEM, "not enough memory for another block of calibration text");
    r->start[r->n_blocks++] = (int64_t)r->ids.n;
    return DAN_OK;
}

/* Ends after white space, so that no word and no character is cut. */
static size_t block_size(const char *p, size_t n)
{
    if (n <= BLOCK) return n;
    size_t to = BLOCK;
    while (to > BLOCK / 2 && p[to - 1] != '\n' && p[to - 1] != ' ') to--;
    if (to == BLOCK / 2)
        for (to = BLOCK; to > BLOCK / 2 && ((unsigned char)p[to] & 0xc0) == 0x80;) to--;
    return to;
}

static int add_block(struct reading *r, const char *p, size_t n, bool ends, struct dan_err *e)
{
    int rc = begin_block(r, e);
    if (!rc) rc = dan_tokenizer_encode(r->tok, p, n, DAN_ENCODE_UNK, &r->ids, e);
    if (ends && dan_tokenizer_eos(r->tok) >= 0) dan_ids_push(&r->ids, dan_tokenizer_eos(r->tok));
    if (!rc && r->ids.failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the ids of the calibration text");
    r->bytes += (int64_t)n;
    return rc;
}

static int add_document(struct reading *r, const struct dan_document *d, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t at = 0, n; at < d->n && !rc; at += n) {
        n = block_size(d->p + at, d->n - at);
        if (take(&r->blocks, (double)n)) rc = add_block(r, d->p + at, n, at + n == d->n, e);
    }
    return rc;
}

static int read_text(struct reading *r, struct dan_text *text, struct dan_calibration *c, struct dan_err *e)
{
    struct dan_text_stats stats;
    struct dan_document d = {.p = ""};
    int rc = dan_text_count(text, &stats, e);
    if (rc) return rc;
    double want = (double)r->o.sequences * (double)r->o.length * BYTES_PER_TOKEN;
    if (want < 4.0 * BLOCK) want = 4.0 * BLOCK;
    c->text_bytes = stats.bytes;
    c->docs = stats.docs;
    r->blocks = (struct share){.each = want < (double)stats.bytes ? want / (double)stats.bytes : 1, .window = BLOCK};
    while (!rc && d.p) {
        rc = dan_text_next(text, &d, e);
        if (!rc && d.p) rc = add_document(r, &d, e);
    }
    if (!rc && r->n_blocks) r->start[r->n_blocks] = (int64_t)r->ids.n;
    return rc;
}

/* Tokens of text in a sequence: the prefix stands before each, as models know their first token. */
static int64_t piece_size(const struct reading *r) { return r->o.length - (int64_t)r->o.n_prefix; }

static int64_t count_pieces(const struct reading *r)
{
    int64_t n = 0, size = piece_size(r);
    for (size_t b = 0; b < r->n_blocks; b++) n += (r->start[b + 1] - r->start[b] + size - 1) / size;
    return n;
}

/* Pieces of at most o.length tokens with the prefix; those of one token say nothing about the next. */
static void choose(const struct reading *r, struct dan_calibration *c, int32_t *ids, int64_t *start)
{
    int64_t prefix = (int64_t)r->o.n_prefix, size = piece_size(r), text = r->o.sequences * size;
    struct share s = {.each = (int64_t)r->ids.n > text ? (double)text / (double)r->ids.n : 1, .window = (double)size};
    for (size_t b = 0; b < r->n_blocks; b++)
        for (int64_t at = r->start[b], n; at < r->start[b + 1]; at += n) {
            n = r->start[b + 1] - at < size ? r->start[b + 1] - at : size;
            if (!take(&s, (double)n) || n < 2 || c->tokens + prefix + n > r->o.sequences * r->o.length) continue;
            start[c->text.n++] = c->tokens;
            if (prefix) memcpy(ids + c->tokens, r->o.prefix, (size_t)prefix * sizeof *ids);
            memcpy(ids + c->tokens + prefix, r->ids.v + at, (size_t)n * sizeof *ids);
            c->tokens += prefix + n;
        }
    start[c->text.n] = c->tokens;
}

static int cut(const struct reading *r, struct dan_calibration *c, struct dan_err *e)
{
    int64_t most = r->o.sequences * r->o.length, pieces = count_pieces(r), n = (int64_t)r->ids.n + pieces * (int64_t)r->o.n_prefix;
    if (n > most) n = most;
    int32_t *ids = dan_calloc((size_t)n + 1, sizeof *ids);
    int64_t *start = dan_calloc((size_t)pieces + 1, sizeof *start);
    c->text.ids = ids;
    c->text.start = start;
    if (!ids || !start) return dan_fail(e, DAN_ENOMEM, "not enough memory for %lld tokens of calibration text", (long long)n);
    choose(r, c, ids, start);
    double share = (double)(c->tokens - c->text.n * (int64_t)r->o.n_prefix) / (double)(r->ids.n ? r->ids.n : 1);
    c->bytes = (int64_t)((double)r->bytes * share);
    if (c->tokens >= FEWEST) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "the calibration text has %lld tokens (%lld bytes in %lld documents); at least %d are needed, %lld are better",
                    (long long)c->tokens, (long long)c->text_bytes, (long long)c->docs, FEWEST, (long long)most);
}

static bool is_unknown(const struct dan_tokenizer *t, int32_t id, bool bytes)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    bool one_byte = p && ((n == 1 && (unsigned char)*p >= 0x80) || (n == 6 && !memcmp(p, "<0x", 3)));
    return id == dan_tokenizer_unk(t) || (!bytes && one_byte);
}

static int describe(struct dan_calibration *c, const struct dan_tokenizer *t, const struct dan_lm *lm, struct dan_err *e)
{
    bool bytes = !strcmp(dan_tokenizer_kind(t), "bytes");
    struct dan_products list;
    int rc = dan_products_new(lm, &list, e);
    if (rc) return rc;
    for (size_t i = 0; i < list.n; i++)
        if (list.v[i].k > c->widest) c->widest = list.v[i].k;
    dan_products_release(&list);
    for (int64_t i = 0; i < c->tokens; i++) c->unknown += is_unknown(t, c->text.ids[i], bytes);
    c->vocab = lm->cfg.vocab;
    return DAN_OK;
}

static int settle(struct dan_calibration_opts *o, const struct dan_lm *lm, struct dan_err *e)
{
    if (o->sequences < 1) o->sequences = SEQUENCES;
    int64_t most = dan_lm_longest(&lm->cfg);
    if (o->length < 1) o->length = lm->cfg.context < LENGTH ? lm->cfg.context : LENGTH;
    if (!lm->model->time_major && o->length > most)
        return dan_fail(e, DAN_EINVAL, "the model was made for %lld positions, calibration sequences of %lld were asked for; use %lld or less",
                        (long long)most, (long long)o->length, (long long)most);
    if (o->length < 2 + (int64_t)o->n_prefix || o->sequences > INT32_MAX / o->length)
        return dan_fail(e, DAN_EINVAL, "%lld calibration sequences of %lld tokens do not work; take at least %zu tokens, and fewer than 2^31 in all",
                        (long long)o->sequences, (long long)o->length, 2 + o->n_prefix);
    return DAN_OK;
}

int dan_calibration_read(const char *const *paths, size_t n, const struct dan_tokenizer *tok, const struct dan_lm *lm,
                         const struct dan_calibration_opts *o, struct dan_calibration *out, struct dan_err *e)
{
    struct reading r = {.tok = tok};
    struct dan_calibration c = {0};
    struct dan_text *text = NULL;
    if (o) r.o = *o;
    struct dan_text_opts to = {.field = r.o.field, .allow_invalid = r.o.allow_invalid};
    int rc = settle(&r.o, lm, e);
    if (!rc) rc = dan_text_open(paths, n, &to, &text, e);
    if (!rc) rc = read_text(&r, text, &c, e);
    if (!rc) rc = cut(&r, &c, e);
    if (!rc) rc = describe(&c, tok, lm, e);
    dan_text_free(text);
    dan_ids_release(&r.ids);
    dan_free(r.start);
    if (rc) dan_calibration_release(&c);
    else *out = c;
    return rc;
}

void dan_calibration_release(struct dan_calibration *c)
{
    dan_free((void *)c->text.ids);
    dan_free((void *)c->text.start);
    *c = (struct dan_calibration){0};
}

void dan_calibration_doubts(const struct dan_calibration *c, const struct dan_observed *seen, struct dan_str *out)
{
    int64_t enough = 2 * c->widest > ENOUGH ? 2 * c->widest : ENOUGH;
    double guess = log((double)c->vocab), unknown = c->tokens ? 100.0 * (double)c->unknown / (double)c->tokens : 0;
    if (c->tokens < enough)
        dan_str_printf(out, "the calibration text is short: %lld tokens in %lld sequences, the widest product has %lld inputs; take %lld tokens or more\n",
                       (long long)c->tokens, (long long)c->text.n, (long long)c->widest, (long long)enough);
    if (unknown > 5)
        dan_str_printf(out, "%.1f %% of the calibration tokens are unknown characters or single bytes of them (%.2f tokens per byte of text); the "
                       "tokenizer was not made for this text\n", unknown, (double)c->tokens / (double)(c->bytes ? c->bytes : 1));
    double loss = seen && seen->targets ? seen->nats / (double)seen->targets : 0;
    if (loss > 0.8 * guess)
        dan_str_printf(out, "the model does not know this calibration text: %.2f nats per token, guessing gives %.2f (the logarithm of %lld tokens); take "
                       "text like that which the model was trained on\n", loss, guess, (long long)c->vocab);
}
