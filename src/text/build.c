/* Puts a tokenizer together from tokens and merges. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"

enum { MAX_TOKEN = 1 << 20 };

struct dan_tokenizer *dan_tok_new(const struct dan_tok_kind *kind)
{
    struct dan_tokenizer *t = dan_calloc(1, sizeof *t);
    if (!t) return NULL;
    t->kind = kind;
    t->bos = t->eos = t->unk = t->pad = -1;
    for (int b = 0; b < 256; b++) t->byte_id[b] = -1;
    return t;
}

static int set_added(struct dan_tokenizer *t, const struct dan_tok_entry *entry)
{
    t->added = dan_calloc(t->n_added + 1, sizeof *t->added);
    if (!t->added) return -1;
    size_t m = 0;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int how = entry[id].added;
        if (!(how & 3)) continue;
        struct dan_added a = {id, t->bytes + t->start[id], entry[id].n, (how & 3) == 1, how & 4, how & 8, how & 16, how & 32, NULL};
        t->added[m] = a;
        if (dan_added_put(a.normalized ? &t->normal : &t->raw, a.p, a.n, (int64_t)m, a.special)) return -1;
        m++;
    }
    return 0;
}

/* One token's way into the tables; the bytes are already in place. */
static int set_ordinary(struct dan_tokenizer *t, int32_t id, size_t n)
{
    const char *p = t->bytes + t->start[id];
    int64_t *slot = dan_map_slot(t->by_bytes, p, n);
    if (!slot) return -1;
    *slot = id;
    if (n == 1) t->byte_id[(unsigned char)p[0]] = id;
    return 0;
}

int dan_tok_set_vocab(struct dan_tokenizer *t, const struct dan_tok_entry *entry, size_t n, struct dan_err *e)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (entry[i].n > MAX_TOKEN || (entry[i].added & 3 && entry[i].n == 0))
            return dan_fail(e, DAN_EFORMAT, "bad vocabulary: token %zu has %zu bytes; is the file damaged?", i, entry[i].n);
        total += entry[i].n;
        t->n_added += (entry[i].added & 3) != 0;
    }
    t->n_vocab = (int32_t)n;
    t->bytes = dan_malloc(total + 1);
    t->start = dan_calloc(n + 1, sizeof *t->start);
    t->by_bytes = dan_map_new();
    if (!t->bytes || !t->start || !t->by_bytes || dan_map_reserve(t->by_bytes, n)) goto memory;
    for (size_t i = 0; i < n; i++) {
        if (entry[i].n) memcpy(t->bytes + t->start[i], entry[i].p, entry[i].n);
        t->start[i + 1] = t->start[i] + entry[i].n;
        if (entry[i].n && !(entry[i].added & 128) && (!(entry[i].added & 3) || entry[i].added & 64) && set_ordinary(t, (int32_t)i, entry[i].n) != 0) goto memory;
    }
    if (set_added(t, entry) == 0) return DAN_OK;
memory:
    return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", n);
}

int32_t dan_tok_id_of(const struct dan_tokenizer *t, const char *text, size_t n, char *raw)
{
    int64_t id;
    size_t m = dan_alphabet_get(text, n, raw);
    return dan_map_get(t->by_bytes, raw, m, &id) ? (int32_t)id : -1;
}

enum { MANY = 32, SHORT = 64 };                /* merges at a time; bytes of a token that has no place of its own */

/* The bytes of a merge's result, in small, or, when it is long, in *big, which the caller frees; no bytes when there are no such
 * tokens.  False: out of memory. */
static bool joined(const struct dan_tokenizer *t, const int32_t pair[2], char small[SHORT], char **big, struct dan_map_ask *ask)
{
    size_t a, b;
    const char *p = dan_tokenizer_token(t, pair[0], &a), *q = dan_tokenizer_token(t, pair[1], &b);
    *ask = (struct dan_map_ask){.key = small, .n = 0};
    *big = NULL;
    if (!p || !q) return true;
    if (a + b > SHORT && !(*big = dan_malloc(a + b))) return false;
    char *to = *big ? *big : small;
    memcpy(to, p, a);
    memcpy(to + a, q, b);
    *ask = (struct dan_map_ask){.key = to, .n = a + b};
    return true;
}

/* The tokens that n merges make: their bytes are looked up together. */
static bool merged_ids(const struct dan_tokenizer *t, const int32_t *pair, size_t n, int32_t *id)
{
    char small[MANY][SHORT], *big[MANY];
    struct dan_map_ask ask[MANY];
    size_t m = 0;
    while (m < n && joined(t, pair + 2 * m, small[m], &big[m], &ask[m])) m++;
    if (m == n) dan_map_get_many(t->by_bytes, ask, n);
    for (size_t k = 0; k < m; k++) {
        id[k] = m == n && ask[k].n && ask[k].found ? (int32_t)ask[k].value : -1;
        dan_free(big[k]);
    }
    return m == n;
}

int dan_tok_set_merges(struct dan_tokenizer *t, int32_t *pair, size_t n, const char *where, struct dan_err *e)
{
    t->merge_pair = pair;
    t->n_merges = n;
    if (dan_merges_new(t, n, n) != 0) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu merges", n);
    for (size_t r = 0; r < n; r += MANY) {
        size_t some = n - r < MANY ? n - r : MANY;
        for (size_t k = r; k < r + some; k++) dan_merges_expect(t, dan_pair_key(pair[2 * k], pair[2 * k + 1]));
        if (!merged_ids(t, pair + 2 * r, some, t->merge_id + r)) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu merges", n);
        for (size_t k = r; k < r + some; k++) {
            if (t->merge_id[k] < 0)
                return dan_fail(e, DAN_EFORMAT, "%s: merge %zu makes a token that is not in the vocabulary; the file is damaged or of a kind "
                                "that is not supported yet", where, k);
            dan_merges_put(t, (struct dan_merge){dan_pair_key(pair[2 * k], pair[2 * k + 1]), (int32_t)k, t->merge_id[k]});
        }
    }
    return DAN_OK;
}

int dan_tok_set_chars(struct dan_tokenizer *t, struct dan_err *e)
{
    for (int32_t id = 0; id < t->n_vocab; id++) {
        size_t n;
        const char *p = dan_tokenizer_token(t, id, &n);
        int64_t found;
        if (!p || !dan_map_get(t->by_bytes, p, n, &found) || found != id) continue;
        int32_t cp;
        if ((size_t)dan_utf8_next(p, n, &cp) != n || cp < 0)
            return dan_fail(e, DAN_EUNSUPPORTED, "model.type 'WordLevel' with whole words is not supported yet: token %d '%.*s' is not one "
                            "character; use a byte-level BPE or character tokenizer", id, (int)(n > 60 ? 60 : n), p);
        int32_t **page = &t->page[cp >> 8];
        if (!*page) {
            *page = dan_malloc(256 * sizeof **page);
            if (!*page) return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %d characters", t->n_vocab);
            for (int i = 0; i < 256; i++) (*page)[i] = -1;
        }
        (*page)[cp & 255] = id;
    }
    return DAN_OK;
}

void dan_tok_finish(struct dan_tokenizer *t)
{
    uint64_t h = dan_hash(t->kind->name, strlen(t->kind->name), 1);
    if (t->split.name) h = dan_hash(t->split.name, strlen(t->split.name), h);
    h = dan_hash(t->bytes, t->start[t->n_vocab], h + t->nfc);
    h = dan_hash(t->start, ((size_t)t->n_vocab + 1) * sizeof *t->start, h);
    h = dan_wordpiece_hash(t->wordpiece, h);
    if (t->n_merges) h = dan_hash(t->merge_pair, t->n_merges * 2 * sizeof *t->merge_pair, h + t->ignore_merges);
    for (size_t i = 0; i < t->n_added; i++) h = dan_hash(&t->added[i].id, sizeof t->added[i].id, h + t->added[i].special);
    t->hash = h;
    if (t->unk < 0) t->unk = dan_tokenizer_find_special(t, "<unk>");
}

size_t dan_tok_n_special(const struct dan_tok_train_opts *o) { return o && o->special ? o->n_special : 1; }
const char *dan_tok_special(const struct dan_tok_train_opts *o, size_t i) { return o && o->special ? o->special[i] : DAN_END_OF_TEXT; }

int dan_tok_check_special(const struct dan_tok_train_opts *o, struct dan_err *e)
{
    for (size_t i = 0; i < dan_tok_n_special(o); i++) {
        const char *s = dan_tok_special(o, i);
        if (!*s || dan_utf8_check(s, strlen(s)) != strlen(s))
            return dan_fail(e, DAN_EINVAL, "bad special token %zu: empty or not UTF-8; write it like '%s'", i, DAN_END_OF_TEXT);
        for (size_t k = 0; k < i; k++)
            if (strcmp(s, dan_tok_special(o, k)) == 0) return dan_fail(e, DAN_EINVAL, "special token '%s' given twice; give it once", s);
    }
    return DAN_OK;
}
