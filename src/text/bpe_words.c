/* Byte-level BPE of a text, pre-token by pre-token.  Nearly all are short and known: 9 of 10 in English are a token of the vocabulary,
 * which a table made of the vocabulary tells (the first time that a token's bytes occur they are merged: a vocabulary may have tokens that
 * their own bytes do not merge into); with a cache, also those of up to 4 tokens that occurred before.  The rest is merged. */
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"
#include "text/known_words.h"

enum { MANY = 256, AHEAD = 16 };               /* pre-tokens at a time; tokens between the look for a place and its use */

/* hi 0: there is none, or it is too long. */
static struct dan_word_key token_key(const struct dan_tokenizer *t, int32_t id)
{
    char copy[16] = {0};
    size_t n;
    const char *p = id < t->n_vocab ? dan_tokenizer_token(t, id, &n) : NULL;
    if (!p || n > DAN_WORD_MOST) return (struct dan_word_key){0, 0};
    memcpy(copy, p, n);
    return dan_word_key(copy, n);
}

int dan_bpe_prepare(struct dan_tokenizer *t, struct dan_err *e)
{
    struct dan_known_words *w = t->word_table = dan_calloc(1, sizeof *w);
    if (!w || dan_known_init(w, (size_t)t->n_vocab))
        return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %d tokens", t->n_vocab);
    for (int32_t id = 0; id < t->n_vocab; id++) {
        struct dan_word_key ahead = token_key(t, id + AHEAD), k = token_key(t, id);
        if (ahead.hi) __builtin_prefetch(&w->slot[dan_known_first(w, ahead)], 1);
        if (k.hi) dan_known_put(w, k, id);
    }
    return DAN_OK;
}

void dan_bpe_release(struct dan_tokenizer *t)
{
    if (!t->word_table) return;
    dan_known_release(t->word_table);
    dan_free(t->word_table);
    t->word_table = NULL;
}

struct run {
    const struct dan_tokenizer *t;
    const struct dan_known_words *table;        /* or NULL */
    struct dan_tok_cache *cache;               /* or NULL */
    struct dan_ids *out;
    int flags;
    size_t end[MANY];
    struct dan_word_key key[MANY];             /* hi 0: too long for one */
};

static struct dan_word_key key_near_end(const char *p, size_t n)
{
    char copy[16] = {0};
    memcpy(copy, p, n);
    return dan_word_key(copy, n);
}

/* Keys of the m pre-tokens of p[0, n), and their places on the way to the processor: one that comes from memory costs as much time as
 * ten that are there. */
static void look_ahead(struct run *r, const char *p, size_t n, size_t m)
{
    for (size_t i = 0, at = 0; i < m; at = r->end[i++]) {
        size_t len = r->end[i] - at;
        struct dan_word_key k = {0, 0};
        if (len <= DAN_WORD_MOST) k = at + 16 <= n ? dan_word_key(p + at, len) : key_near_end(p + at, len);
        r->key[i] = k;
        if (r->cache) __builtin_prefetch(dan_cache_set(r->cache, k));
        else if (r->table) __builtin_prefetch(&r->table->slot[dan_known_first(r->table, k)]);
    }
}

static inline bool from_cache(const struct dan_tok_cache *c, struct dan_word_key k, struct dan_ids *out)
{
    const int32_t *id;
    size_t m = dan_cache_find(c, k, &id);
    memcpy(out->v + out->n, id, DAN_CACHE_IDS * sizeof *id);
    out->n += m;
    return m != 0;
}

static inline bool from_table(const struct dan_known_words *w, struct dan_word_key k, struct dan_ids *out)
{
    bool own = dan_known_own(w, k, &out->v[out->n]);
    out->n += own;
    return own;
}

static int merge_one(const struct run *r, const char *p, size_t n, struct dan_word_key k, struct dan_err *e)
{
    size_t before = r->out->n;
    bool remember = r->cache && k.hi;
    if (!remember || !r->table || !from_table(r->table, k, r->out)) {
        int bad = dan_bpe_merge(r->t, p, n, r->flags, r->out, e);
        if (bad) return bad;
        if (k.hi && r->table && !r->out->failed) dan_known_learn(r->table, k, r->out->v + before, r->out->n - before);
    }
    if (remember && !r->out->failed) dan_cache_put(r->cache, k, r->out->v + before, r->out->n - before);
    return DAN_OK;
}

/* The m pre-tokens of p.  Ids are written in fours: there is room, and what is too much is written over. */
static int many(const struct run *r, const char *p, size_t m, struct dan_err *e)
{
    if (!dan_ids_room(r->out, DAN_CACHE_IDS * m)) return DAN_OK;
    for (size_t i = 0, at = 0; i < m; at = r->end[i++]) {
        struct dan_word_key k = r->key[i];
        bool known = k.hi && (r->cache ? from_cache(r->cache, k, r->out) : r->table && from_table(r->table, k, r->out));
        if (known) continue;
        int bad = merge_one(r, p + at, r->end[i] - at, k, e);
        if (bad) return bad;
        if (!dan_ids_room(r->out, DAN_CACHE_IDS * (m - i))) break;
    }
    return DAN_OK;
}

/* With <unk> allowed a word's ids depend on the flags, so such words are not remembered. */
int dan_bpe_words(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                  struct dan_err *e)
{
    struct run r;
    r.t = t, r.table = t->word_table, r.cache = flags & DAN_ENCODE_UNK ? NULL : cache, r.out = out, r.flags = flags;
    for (size_t i = 0; i < n;) {
        size_t m = dan_split_many(&t->split, p + i, n - i, r.end, MANY);
        look_ahead(&r, p + i, n - i, m);
        int bad = many(&r, p + i, m, e);
        if (bad) return bad;
        i += r.end[m - 1];
    }
    return DAN_OK;
}
