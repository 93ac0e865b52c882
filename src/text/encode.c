#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/pipeline.h"
#include "text/sp_model.h"

static int encode_bpe(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                      struct dan_ids *out, struct dan_err *e)
{
    p += from;
    size_t n = to - from;
    if (!t->nfc || dan_nfc_is_settled(p, n)) return dan_bpe_words(t, cache, p, n, flags, out, e);
    struct dan_str s = {0};
    dan_nfc_text(p, n, &s);
    int r = s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory to normalise %zu bytes", n) : dan_bpe_words(t, cache, s.p, s.n, flags, out, e);
    dan_str_release(&s);
    return r;
}

static int encode_bytes(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                        struct dan_ids *out, struct dan_err *e)
{
    (void)cache, (void)flags, (void)e;
    for (size_t i = from; i < to; i++) dan_ids_push(out, t->byte_id[(unsigned char)p[i]]);
    return DAN_OK;
}

static int no_such_char(int32_t cp, const char *p, int len, size_t at, struct dan_err *e)
{
    if (cp < 0)
        return dan_fail(e, DAN_EINVAL, "invalid UTF-8: byte 0x%02X at offset %zu; a character tokenizer needs UTF-8 text", -1 - cp, at);
    return dan_fail(e, DAN_EINVAL, "character '%.*s' (U+%04X) at offset %zu is not in the vocabulary of this character tokenizer; use "
                    "only characters of its training text, or a bpe or bytes tokenizer", len, p, (unsigned)cp, at);
}

static int encode_char(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                       struct dan_ids *out, struct dan_err *e)
{
    (void)cache;
    for (size_t i = from; i < to;) {
        int32_t cp;
        int len = dan_utf8_next(p + i, to - i, &cp);
        const int32_t *page = cp >= 0 ? t->page[cp >> 8] : NULL;
        int32_t id = page ? page[cp & 255] : -1;
        if (id < 0 && flags & DAN_ENCODE_UNK) id = t->unk;
        if (id < 0) return no_such_char(cp, p + i, len, i, e);
        dan_ids_push(out, id);
        i += (size_t)len;
    }
    return DAN_OK;
}

const struct dan_tok_kind dan_tok_bpe = {.name = "bpe", .encode = encode_bpe};
const struct dan_tok_kind dan_tok_char = {.name = "char", .encode = encode_char};
const struct dan_tok_kind dan_tok_bytes = {.name = "bytes", .encode = encode_bytes};

/* --- SentencePiece: what is between control tokens is a text of its own */
static int encode_sp(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                     struct dan_ids *out, struct dan_err *e)
{
    (void)flags;
    return dan_sp_encode(t->sp, cache, p + from, to - from, out, e);
}

const struct dan_tok_kind dan_tok_sp_bpe = {.name = "bpe", .encode = encode_sp};
const struct dan_tok_kind dan_tok_sp_unigram = {.name = "unigram", .encode = encode_sp};

/* --- added tokens, and what is between them */
struct between { const struct dan_tokenizer *t; struct dan_tok_cache *cache; int flags; struct dan_ids *out; struct dan_err *e; };

/* The tokens of a set take their places; rest gets what is between. */
static int around(const struct between *b, const struct dan_added_set *set, const char *p, size_t from, size_t to,
                  int (*rest)(const struct between *b, const char *p, size_t from, size_t to))
{
    struct dan_added_walk w = {.t = b->t, .set = set, .p = p + from, .n = to - from, .flags = b->flags};
    const struct dan_added *a;
    size_t at = 0, start, stop;
    int r = DAN_OK;
    while (!r && (a = dan_added_next(&w, &start, &stop)) != NULL) {
        if (start > at) r = rest(b, p, from + at, from + start);
        if (!r) dan_ids_push(b->out, a->id);
        at = stop;
    }
    return r || from + at == to ? r : rest(b, p, from + at, to);
}

static int plain(const struct between *b, const char *p, size_t from, size_t to)
{
    return b->t->kind->encode(b->t, b->cache, p, from, to, b->flags, b->out, b->e);
}

static int normal(const struct between *b, const char *p, size_t from, size_t to) { return around(b, &b->t->normal, p, from, to, plain); }

int dan_encode_all(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                   struct dan_err *e)
{
    struct between b = {t, cache, flags, out, e};
    int r = !t->kind->encode ? dan_pipeline_encode(t, cache, p, n, flags, out, NULL, e)
                             : around(&b, &t->raw, p, 0, n, t->normal.index ? normal : plain);
    return r || !out->failed ? r : dan_fail(e, DAN_ENOMEM, "out of memory for the ids of %zu bytes", n);
}

int dan_tokenizer_encode(const struct dan_tokenizer *t, const char *bytes, size_t n, int flags, struct dan_ids *out, struct dan_err *e)
{
    return dan_encode_all(t, NULL, bytes, n, flags, out, e);
}
