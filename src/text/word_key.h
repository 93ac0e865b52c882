/* Short words as keys of two registers, and the cache of their ids. */
#ifndef DAN_TEXT_WORD_KEY_H
#define DAN_TEXT_WORD_KEY_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DAN_WORD_MOST = 15, DAN_CACHE_BITS = 19 };

/* The bytes, then zeros; the 16th byte is the length, so that no word's key is all zero. */
struct dan_word_key { uint64_t lo, hi; };

/* 16 bytes can be read at p; n is 1..15. */
static inline struct dan_word_key dan_word_key(const char *p, size_t n)
{
    static const unsigned char mask[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    struct dan_word_key k, m;
    memcpy(&k, p, 16);
    memcpy(&m, mask + 16 - n, 16);
    return (struct dan_word_key){k.lo & m.lo, (k.hi & m.hi) | (uint64_t)n << 56};
}

/* The upper bits are the good ones. */
static inline uint64_t dan_word_hash(struct dan_word_key k)
{
    uint64_t h = (k.lo ^ k.hi * 0xa0761d6478bd642fu) * 0xe7037ed1a0b428dbu;
    return (h ^ h >> 32) * 0x8ebc6af09c88c6e3u;
}

/* Two slots of 32 bytes, a cache line, for every word that hashes there: the latest comes first.  The upper 4 bits of hi are the
 * number of ids. */
enum { DAN_CACHE_IDS = 4 };
struct dan_tok_word { uint64_t lo, hi; int32_t id[DAN_CACHE_IDS]; };
struct dan_tok_cache { const struct dan_tokenizer *t; struct dan_tok_word *word; };

static inline struct dan_tok_word *dan_cache_set(const struct dan_tok_cache *c, struct dan_word_key k)
{
    return &c->word[dan_word_hash(k) >> (65 - DAN_CACHE_BITS) << 1];
}

static inline uint64_t dan_cache_differ(const struct dan_tok_word *w, struct dan_word_key k) { return (w->lo ^ k.lo) | (w->hi ^ k.hi) << 4; }

/* How many ids, and *id: the DAN_CACHE_IDS places of which they are the first; 0: not remembered. */
static inline size_t dan_cache_find(const struct dan_tok_cache *c, struct dan_word_key k, const int32_t **id)
{
    const struct dan_tok_word *w = dan_cache_set(c, k);
    w += dan_cache_differ(w, k) != 0;
    *id = w->id;
    return dan_cache_differ(w, k) == 0 ? (size_t)(w->hi >> 60) : 0;
}

/* More ids than there is room for are not remembered. */
static inline void dan_cache_put(struct dan_tok_cache *c, struct dan_word_key k, const int32_t *id, size_t n)
{
    struct dan_tok_word *w = dan_cache_set(c, k);
    if (n > DAN_CACHE_IDS) return;
    w[1] = w[0];
    w[0] = (struct dan_tok_word){.lo = k.lo, .hi = k.hi | (uint64_t)n << 60};
    memcpy(w->id, id, n * sizeof *id);
}

#endif
