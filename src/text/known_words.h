/* The vocabulary by its short words, as keys of two registers.  Whether the model gives a word's own token for its bytes is found out
 * when the word first occurs: a vocabulary may have tokens that their own bytes do not become. */
#ifndef DAN_TEXT_KNOWN_WORDS_H
#define DAN_TEXT_KNOWN_WORDS_H
#include <stdatomic.h>
#include <stdbool.h>
#include "base/mem.h"
#include "text/word_key.h"

/* own: does the model give this token for its own bytes?  Threads that share a tokenizer all find the same. */
enum { DAN_KNOWN_NOT_TRIED, DAN_KNOWN_OWN, DAN_KNOWN_OTHER };
struct dan_known { uint64_t lo, hi; int32_t id; _Atomic int32_t own; };
struct dan_known_words { uint64_t mask; struct dan_known *slot; };     /* open addressing, hi 0: free */

static inline uint64_t dan_known_first(const struct dan_known_words *w, struct dan_word_key k) { return dan_word_hash(k) >> 20 & w->mask; }

static inline struct dan_known *dan_known_find(const struct dan_known_words *w, struct dan_word_key k)
{
    uint64_t i = dan_known_first(w, k);
    while (w->slot[i].hi && (w->slot[i].lo != k.lo || w->slot[i].hi != k.hi)) i = (i + 1) & w->mask;
    return &w->slot[i];
}

/* Room for n words.  -1: out of memory. */
static inline int dan_known_init(struct dan_known_words *w, size_t n)
{
    uint64_t cap = 64;
    while (cap < 2 * (uint64_t)n) cap *= 2;
    w->mask = cap - 1;
    w->slot = dan_huge_alloc(cap * sizeof *w->slot);
    return w->slot ? 0 : -1;
}

static inline void dan_known_release(struct dan_known_words *w)
{
    if (w->slot) dan_huge_free(w->slot, (w->mask + 1) * sizeof *w->slot);
    w->slot = NULL;
}

static inline void dan_known_put(const struct dan_known_words *w, struct dan_word_key k, int32_t id)
{
    struct dan_known *slot = dan_known_find(w, k);
    slot->lo = k.lo, slot->hi = k.hi, slot->id = id;
}

/* *id is the word's token, if the model gives it. */
static inline bool dan_known_own(const struct dan_known_words *w, struct dan_word_key k, int32_t *id)
{
    const struct dan_known *known = dan_known_find(w, k);
    *id = known->id;
    return atomic_load_explicit(&known->own, memory_order_relaxed) == DAN_KNOWN_OWN;
}

/* The ids that the bytes of a word became. */
static inline void dan_known_learn(const struct dan_known_words *w, struct dan_word_key k, const int32_t *id, size_t n)
{
    struct dan_known *known = dan_known_find(w, k);
    int own = n == 1 && id[0] == known->id ? DAN_KNOWN_OWN : DAN_KNOWN_OTHER;
    if (known->hi) atomic_store_explicit(&known->own, own, memory_order_relaxed);
}

#endif
