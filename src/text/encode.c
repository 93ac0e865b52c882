#include <string.h>
#include <utf8proc.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"

/* With <unk> allowed a word's ids depend on the flags, so such words are not remembered. */
static int encode_word(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                       struct dan_err *e)
{
    if (!cache || n > 15 || flags & DAN_ENCODE_UNK) return dan_bpe_merge(t, p, n, flags, out, e);
    uint64_t lo, hi;
    struct dan_tok_word *w = dan_cache_slot(cache, p, n, &lo, &hi);
    if (w->lo == lo && w->hi == hi) {
        for (int32_t i = 0; i < w->n; i++) dan_ids_push(out, w->id[i]);
        return DAN_OK;
    }
    size_t before = out->n;
    int r = dan_bpe_merge(t, p, n, flags, out, e);
    size_t m = out->n - before;
    if (r || out->failed || m > 3) return r;
    w->lo = lo;
    w->hi = hi;
    w->n = (int32_t)m;
    memcpy(w->id, out->v + before, m * sizeof *w->id);
    return DAN_OK;
}

static int bpe_words(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                     struct dan_err *e)
{
    for (size_t i = 0; i < n;) {
        size_t k = dan_split_next(&t->split, p + i, n - i);
        int r = encode_word(t, cache, p + i, k, flags, out, e);
        if (r) return r;
        i += k;
    }
    return DAN_OK;
}

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
    if (!t->nfc || is_ascii(p, n)) return bpe_words(t, cache, p, n, flags, out, e);
    struct dan_str s = {0};
    put_nfc(p, n, &s);
    int r = s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory to normalise %zu bytes", n) : bpe_words(t, cache, s.p, s.n, flags, out, e);
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

/* \s, as added tokens with lstrip and rstrip take it: ASCII only */
static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int dan_encode_all(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                   struct dan_err *e)
{
    for (size_t i = 0; i < n;) {
        size_t at = n;
        const struct dan_added *a = dan_added_find(t, p, n, i, flags, &at);
        size_t stop = at, next = at + (a ? a->n : 0);
        while (a && a->lstrip && stop > i && is_blank(p[stop - 1])) stop--;
        while (a && a->rstrip && next < n && is_blank(p[next])) next++;
        int r = stop > i ? t->kind->encode(t, cache, p, i, stop, flags, out, e) : DAN_OK;
        if (r) return r;
        if (a) dan_ids_push(out, a->id);
        i = next;
    }
    return out->failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids of %zu bytes", n) : DAN_OK;
}

int dan_tokenizer_encode(const struct dan_tokenizer *t, const char *bytes, size_t n, int flags, struct dan_ids *out, struct dan_err *e)
{
    return dan_encode_all(t, NULL, bytes, n, flags, out, e);
}
