/* Counting words of a batch: one table for each thread, emptied after every batch. */
#include <string.h>
#include "base/mem.h"
#include "text/words.h"

static const uint64_t LONG = UINT64_C(0xFF) << 56;
enum { FIRST_SLOTS = 1 << 12 };

static uint64_t hash_of(const struct dan_word_seen *w) { return dan_word_hash((struct dan_word_key){w->lo, w->hi}); }

const char *dan_word_table_bytes(const struct dan_word_table *t, const struct dan_word_seen *w, size_t *n)
{
    *n = (w->hi & LONG) == LONG ? (size_t)(w->hi & ~LONG) : (size_t)(w->hi >> 56);
    return (w->hi & LONG) == LONG ? t->long_bytes.p + w->at : (const char *)&w->lo;
}

static bool slots_grow(struct dan_word_table *t)
{
    uint64_t cap = t->slot ? (t->mask + 1) * 2 : FIRST_SLOTS;
    uint32_t *slot = dan_calloc(cap, sizeof *slot);
    if (!slot) return false;
    for (size_t k = 0; k < t->n; k++) {
        uint64_t i = hash_of(&t->seen[k]) & (cap - 1);
        while (slot[i]) i = (i + 1) & (cap - 1);
        slot[i] = (uint32_t)k + 1;
    }
    dan_free(t->slot);
    t->slot = slot;
    t->mask = cap - 1;
    return true;
}

static bool same(const struct dan_word_table *t, const struct dan_word_seen *a, const struct dan_word_seen *b, const char *p)
{
    if (a->lo != b->lo || a->hi != b->hi) return false;
    return (a->hi & LONG) != LONG || memcmp(t->long_bytes.p + a->at, p, (size_t)(a->hi & ~LONG)) == 0;
}

void dan_word_table_put(struct dan_word_table *t, const char *p, size_t n)
{
    struct dan_word_seen w = {.first = t->next++, .count = 1};
    if (n <= DAN_WORD_MOST) {
        struct dan_word_key k = dan_word_key(p, n);
        w.lo = k.lo, w.hi = k.hi;
    } else w.lo = dan_hash(p, n, 0), w.hi = LONG | n;
    if (t->n * 2 >= (t->slot ? t->mask : 0) && !slots_grow(t)) {
        t->failed = true;
        return;
    }
    uint64_t i = hash_of(&w) & t->mask;
    for (; t->slot[i]; i = (i + 1) & t->mask)
        if (same(t, &t->seen[t->slot[i] - 1], &w, p)) {
            t->seen[t->slot[i] - 1].count++;
            return;
        }
    if (n > DAN_WORD_MOST) {
        w.at = (uint32_t)t->long_bytes.n;
        dan_str_append(&t->long_bytes, p, n);
    }
    if (t->long_bytes.failed || t->long_bytes.n > UINT32_MAX || t->n >= UINT32_MAX - 1 ||
        (t->n == t->cap && dan_vec_grow(&t->seen, &t->cap, t->n + 1, sizeof *t->seen))) {
        t->failed = true;
        return;
    }
    t->seen[t->n++] = w;
    t->slot[i] = (uint32_t)t->n;
}

void dan_word_table_clear(struct dan_word_table *t)
{
    if (t->slot) memset(t->slot, 0, (t->mask + 1) * sizeof *t->slot);
    t->n = 0;
    dan_str_clear(&t->long_bytes);
}

void dan_word_table_release(struct dan_word_table *t)
{
    dan_free(t->seen);
    dan_free(t->slot);
    dan_str_release(&t->long_bytes);
    dan_str_release(&t->room);
    *t = (struct dan_word_table){0};
}
