/* Tokenizers that need no learning: characters and bytes. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/words.h"

enum { N_CODE_POINTS = 0x110000 };

static int note_chars(uint8_t *seen, const char *p, size_t n, int64_t doc, struct dan_err *e)
{
    for (size_t i = 0; i < n;) {
        int32_t cp;
        int len = dan_utf8_next(p + i, n - i, &cp);
        if (cp < 0)
            return dan_fail(e, DAN_EINVAL, "invalid UTF-8: byte 0x%02X at offset %zu of document %lld; a character tokenizer needs UTF-8, "
                            "use --kind bytes or bpe for other text", -1 - cp, i, (long long)doc);
        if (cp == 0)
            return dan_fail(e, DAN_EINVAL, "NUL character at offset %zu of document %lld; a character tokenizer cannot hold it, remove it "
                            "or use --kind bytes or bpe", i, (long long)doc);
        seen[cp >> 3] |= (uint8_t)(1 << (cp & 7));
        i += (size_t)len;
    }
    return DAN_OK;
}

static int read_chars(uint8_t *seen, const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tok_train_stats *s,
                      struct dan_err *e)
{
    for (;;) {
        const char *p = NULL;
        size_t n = 0;
        int r = src->next(src->ctx, &p, &n, e);
        if (r || !p) return r;
        for (size_t i = 0, at; i < n && !r;) {
            size_t k = dan_train_special(o, p, n, i, &at);
            r = note_chars(seen, p + i, at - i, s->docs, e);
            i = at + k;
        }
        s->docs++;
        s->bytes += (int64_t)n;
        if (!r) r = dan_train_progress(o, "read", s->bytes, src->total, e);
        if (r) return r;
    }
}

/* n tokens in `entry`, then the special ones. */
static int make_plain(const struct dan_tok_kind *kind, struct dan_tok_entry *entry, size_t n, const struct dan_tok_train_opts *o,
                      struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_tokenizer *t = dan_tok_new(kind);
    for (size_t i = 0; i < dan_tok_n_special(o); i++)
        entry[n + i] = (struct dan_tok_entry){dan_tok_special(o, i), strlen(dan_tok_special(o, i)), 1};
    int r = t ? dan_tok_set_vocab(t, entry, n + dan_tok_n_special(o), e) : dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    if (!r && kind == &dan_tok_char) r = dan_tok_set_chars(t, e);
    if (!r && kind == &dan_tok_bytes) r = dan_tok_set_merges(t, NULL, 0, "bytes", e);
    if (!r && kind == &dan_tok_bytes) {
        t->split = *dan_split_named("gpt2");
        t->split.classes = dan_classes_new(&t->split);
        if (!t->split.classes) r = dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    }
    if (r) {
        dan_tokenizer_free(t);
        return r;
    }
    t->bos = t->eos = dan_tokenizer_find_special(t, DAN_END_OF_TEXT);
    dan_tok_finish(t);
    *out = t;
    return DAN_OK;
}

static int make_char(const uint8_t *seen, const struct dan_tok_train_opts *o, struct dan_tok_train_stats *s, struct dan_tokenizer **out,
                     struct dan_err *e)
{
    size_t n = 0;
    for (int32_t cp = 0; cp < N_CODE_POINTS; cp++) n += seen[cp >> 3] >> (cp & 7) & 1;
    if (n == 0) return dan_fail(e, DAN_EINVAL, "no text to train a tokenizer on; give files with text");
    struct dan_tok_entry *entry = dan_calloc(n + dan_tok_n_special(o), sizeof *entry);
    char *text = dan_malloc(4 * n);
    int r = entry && text ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for %zu characters", n);
    size_t m = 0;
    for (int32_t cp = 0; cp < N_CODE_POINTS && !r; cp++) {
        if (!(seen[cp >> 3] >> (cp & 7) & 1)) continue;
        entry[m] = (struct dan_tok_entry){text + 4 * m, (size_t)dan_utf8_put(cp, text + 4 * m), 0};
        m++;
    }
    s->distinct = (int64_t)n;
    if (!r) r = make_plain(&dan_tok_char, entry, n, o, out, e);
    dan_free(entry);
    dan_free(text);
    return r;
}

int dan_tokenizer_train_char(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                             struct dan_tok_train_stats *stats, struct dan_err *e)
{
    static const struct dan_tok_train_opts none = {0};
    struct dan_tok_train_stats s = {0};
    if (!o) o = &none;
    int r = dan_tok_check_special(o, e);
    if (r) return r;
    uint8_t *seen = dan_calloc(N_CODE_POINTS / 8, 1);
    r = seen ? read_chars(seen, src, o, &s, e) : dan_fail(e, DAN_ENOMEM, "out of memory for training a tokenizer");
    if (!r) r = make_char(seen, o, &s, out, e);
    dan_free(seen);
    if (stats && !r) *stats = s;
    return r;
}

int dan_tokenizer_new_bytes(const struct dan_tok_train_opts *o, struct dan_tokenizer **out, struct dan_err *e)
{
    char bytes[256];
    struct dan_tok_entry *entry = dan_calloc(256 + dan_tok_n_special(o), sizeof *entry);
    int r = entry ? dan_tok_check_special(o, e) : dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    for (int b = 0; b < 256 && !r; b++) {
        bytes[b] = (char)(unsigned char)b;
        entry[b] = (struct dan_tok_entry){&bytes[b], 1, 0};
    }
    if (!r) r = make_plain(&dan_tok_bytes, entry, 256, o, out, e);
    dan_free(entry);
    return r;
}
