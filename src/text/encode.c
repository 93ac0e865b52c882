#include <string.h>
#include <utf8proc.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/pipeline.h"
#include "text/sp_model.h"

static bool is_ascii(const char *p, size_t n)
{
    unsigned char any = 0;
    for (size_t i = 0; i < n; i++) any |= (unsigned char)p[i];
    return any < 0x80;
}

/* Appends the NFC form of n > 0 valid bytes. */
static void put_nfc_run(const char *p, size_t n, struct dan_str *out)
{
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)p;
    utf8proc_ssize_t m = utf8proc_decompose(from, (utf8proc_ssize_t)n, NULL, 0, how);
    int32_t *cp = m < 0 ? NULL : dan_malloc(((size_t)m + 1) * sizeof *cp);
    if (cp) m = utf8proc_decompose(from, (utf8proc_ssize_t)n, cp, m, how);
    if (cp && m >= 0) m = utf8proc_reencode(cp, m, how);           /* in place */
    if (cp && m >= 0) dan_str_append(out, cp, (size_t)m);
    else out->failed = true;
    dan_free(cp);
}

/* Invalid bytes stay as they are between the valid runs. */
static void put_nfc(const char *p, size_t n, struct dan_str *out)
{
    for (size_t i = 0; i < n;) {
        size_t good = dan_utf8_check(p + i, n - i);
        if (good) put_nfc_run(p + i, good, out);
        i += good;
        if (i < n) dan_str_putc(out, p[i++]);
    }
}

static int encode_bpe(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                      struct dan_ids *out, struct dan_err *e)
{
    p += from;
    size_t n = to - from;
    if (!t->nfc || is_ascii(p, n)) return dan_bpe_words(t, cache, p, n, flags, out, e);
    struct dan_str s = {0};
    put_nfc(p, n, &s);
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
