#include "text/trie.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

/* Blocks in which free units are still looked for: older ones are nearly full, and looking there costs more than it saves. */
enum { BLOCK = 256, OPEN_BLOCKS = 16, FREE = 256, HUGE = 2 << 20 };
#define NO_UNIT UINT32_MAX

/* Free units of the open blocks form a ring in index order. */
struct builder {
    struct dan_trie *t;
    const struct dan_trie_key *key;
    size_t   cap, next_cap, prev_cap, used_cap;
    uint32_t *next, *prev, first_free;
    uint8_t  *base_used;
    bool     too_large;
};
/* Keys [from, to) share their first `depth` bytes, which lead to unit `at`. */
struct job { size_t from, to; uint32_t depth, at; };

static dan_trie_unit unit_of(uint32_t base, unsigned label, int32_t value)
{
    return base | (uint64_t)label << 32 | (uint64_t)(uint32_t)(value + 1) << 41;
}

static void take(struct builder *b, uint32_t k)
{
    if (b->next[k] == k) b->first_free = NO_UNIT;
    else if (b->first_free == k) b->first_free = b->next[k];
    b->next[b->prev[k]] = b->next[k];
    b->prev[b->next[k]] = b->prev[k];
    b->next[k] = NO_UNIT;
}

static void give(struct builder *b, uint32_t k)
{
    if (b->first_free == NO_UNIT) {
        b->first_free = b->next[k] = b->prev[k] = k;
        return;
    }
    uint32_t first = b->first_free, last = b->prev[first];
    b->next[k] = first;
    b->prev[k] = last;
    b->next[last] = b->prev[first] = k;
}

static bool is_free(const struct builder *b, uint32_t k) { return (b->t->unit[k] >> 32 & 511) == FREE && k != 0; }

static int add_block(struct builder *b)
{
    size_t n = b->t->n, to = n + BLOCK;
    b->too_large = to >= NO_UNIT;
    if (b->too_large || dan_vec_grow(&b->t->unit, &b->cap, to, sizeof *b->t->unit) || dan_vec_grow(&b->next, &b->next_cap, to, 4)
        || dan_vec_grow(&b->prev, &b->prev_cap, to, 4) || dan_vec_grow(&b->base_used, &b->used_cap, to, 1)) return -1;
    memset(b->base_used + n, 0, BLOCK);
    if (n >= (size_t)OPEN_BLOCKS * BLOCK) {
        uint32_t old = (uint32_t)(n - (size_t)OPEN_BLOCKS * BLOCK);
        for (uint32_t k = old; k < old + BLOCK; k++)
            if (b->next[k] != NO_UNIT) take(b, k);
    }
    for (uint32_t k = (uint32_t)n; k < to; k++) {
        b->t->unit[k] = unit_of(0, FREE, -1);
        if (k) give(b, k);
        else b->next[k] = NO_UNIT;             /* the root */
    }
    b->t->n = to;
    return 0;
}

static bool fits(const struct builder *b, uint32_t base, const unsigned char *label, int n)
{
    if (b->base_used[base]) return false;
    for (int i = 1; i < n; i++)
        if (!is_free(b, base ^ label[i])) return false;
    return true;
}

/* A base whose units for all n labels are free; NO_UNIT: out of memory. */
static uint32_t find_base(struct builder *b, const unsigned char *label, int n)
{
    uint32_t k = b->first_free;
    if (k != NO_UNIT)
        do {
            if (fits(b, k ^ label[0], label, n)) return k ^ label[0];
            k = b->next[k];
        } while (k != b->first_free);
    uint32_t fresh = (uint32_t)b->t->n;
    return add_block(b) ? NO_UNIT : fresh ^ label[0];
}

/* The distinct next bytes of a job's keys and where each begins: from[i] .. from[i + 1]. */
static int branches(const struct dan_trie_key *key, struct job j, unsigned char *label, size_t *from)
{
    int n = 0;
    for (size_t i = j.from; i < j.to; i++) {
        if (key[i].n == j.depth) continue;
        unsigned char c = (unsigned char)key[i].p[j.depth];
        if (n && label[n - 1] == c) continue;
        label[n] = c;
        from[n++] = i;
    }
    from[n] = j.to;
    return n;
}

/* Equal strings stand together, the highest value last. */
static int32_t value_of(const struct dan_trie_key *key, struct job j)
{
    int32_t v = -1;
    for (size_t i = j.from; i < j.to && key[i].n == j.depth; i++) v = key[i].value;
    return v;
}

struct jobs { struct job *v; size_t n, cap; };

static int place(struct builder *b, struct job j, struct jobs *q)
{
    unsigned char label[256];
    size_t from[257];
    int n = branches(b->key, j, label, from);
    if (!n) return 0;
    uint32_t base = find_base(b, label, n);
    if (base == NO_UNIT || dan_vec_grow(&q->v, &q->cap, q->n + (size_t)n, sizeof *q->v)) return -1;
    b->base_used[base] = 1;
    b->t->unit[j.at] |= base;
    for (int i = 0; i < n; i++) {
        struct job child = {from[i], from[i + 1], j.depth + 1, base ^ label[i]};
        if (b->next[child.at] != NO_UNIT) take(b, child.at);
        b->t->unit[child.at] = unit_of(0, label[i], value_of(b->key, child));
        q->v[q->n++] = child;
    }
    return 0;
}

/* Breadth first: the nodes near the root, which every text visits, stand together. */
static int place_all(struct builder *b, size_t n_keys)
{
    struct jobs q = {0};
    int bad = add_block(b) || dan_vec_grow(&q.v, &q.cap, 1, sizeof *q.v);
    if (!bad) {
        b->base_used[0] = 1;                   /* the base of those that have no children: nobody's */
        q.v[q.n++] = (struct job){0, n_keys, 0, 0};
    }
    for (size_t i = 0; i < q.n && !bad; i++) bad = place(b, q.v[i], &q);
    dan_free(q.v);
    return bad;
}

static int by_bytes(const void *left, const void *right)
{
    const struct dan_trie_key *a = left, *b = right;
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n ? memcmp(a->p, b->p, n) : 0;
    if (order) return order;
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    return (a->value > b->value) - (a->value < b->value);
}

/* A large trie is read all over the place: one page of 2 MiB instead of hundreds. */
static void move_to_huge(struct dan_trie *t)
{
    size_t bytes = t->n * sizeof *t->unit, huge = bytes < HUGE ? HUGE : bytes;
    dan_trie_unit *unit = bytes < HUGE / 8 ? NULL : dan_huge_alloc(huge);
    if (!unit) return;
    memcpy(unit, t->unit, bytes);
    dan_free(t->unit);
    t->unit = unit;
    t->huge = huge;
}

int dan_trie_build(struct dan_trie *t, struct dan_trie_key *key, size_t n, struct dan_err *e)
{
    *t = (struct dan_trie){0};
    struct builder b = {.t = t, .key = key, .first_free = NO_UNIT};
    if (n > 1) qsort(key, n, sizeof *key, by_bytes);
    int bad = 0;
    for (size_t i = 0; i < n && !bad; i++) bad = key[i].n >= UINT32_MAX || key[i].value > DAN_TRIE_MOST || key[i].value < 0;
    if (bad)
        return dan_fail(e, DAN_EUNSUPPORTED, "a vocabulary of more than %d pieces, or a piece of 4 GiB, is not supported", DAN_TRIE_MOST);
    bad = place_all(&b, n);
    dan_free(b.next);
    dan_free(b.prev);
    dan_free(b.base_used);
    if (!bad) return move_to_huge(t), DAN_OK;
    dan_trie_release(t);
    if (b.too_large) return dan_fail(e, DAN_EUNSUPPORTED, "a vocabulary of more than 4 GiB is not supported");
    return dan_fail(e, DAN_ENOMEM, "out of memory for the trie of %zu pieces", n);
}

void dan_trie_release(struct dan_trie *t)
{
    if (t->huge) dan_huge_free(t->unit, t->huge);
    else dan_free(t->unit);
    *t = (struct dan_trie){0};
}

int32_t dan_trie_find(const struct dan_trie *t, const char *p, size_t n)
{
    if (!t->n) return -1;
    dan_trie_unit at = t->unit[0];
    for (size_t i = 0; i < n; i++)
        if (!dan_trie_step(t, &at, (unsigned char)p[i])) return -1;
    return dan_trie_value(at);
}

size_t dan_trie_longest(const struct dan_trie *t, const char *p, size_t n, int32_t *value)
{
    if (!t->n) return 0;
    size_t len = 0;
    dan_trie_unit at = t->unit[0];
    for (size_t i = 0; i < n && dan_trie_step(t, &at, (unsigned char)p[i]); i++)
        if (dan_trie_value(at) >= 0) len = i + 1, *value = dan_trie_value(at);
    return len;
}
