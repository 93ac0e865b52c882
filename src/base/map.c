#include "base/map.h"
#include <endian.h>
#include <string.h>
#include "base/mem.h"

/* Entries lie in insertion order; `index` holds entry number + 1 (0 = free) under linear
 * probing, at most two thirds full, and a part of the hash, which spares a look at nearly every entry that is another.
 * Keys live in blocks that never move, NUL-terminated. */
struct place { uint32_t entry, tag; };
struct entry { const char *key; size_t n; uint64_t hash; int64_t value; };

struct key_block { struct key_block *next; size_t used, cap; char bytes[]; };

struct dan_map {
    struct entry *entry;
    size_t n, cap;
    struct place *index;
    size_t n_index;                                /* a power of two */
    struct key_block *keys;
};

enum { KEY_BLOCK = 4096, FIRST_INDEX = 16, SOME = 32 };

/* Little-endian, so that all machines hash alike. */
static inline uint64_t read_8(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static inline uint64_t read_4(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

/* n < 8, without a loop: keys are short.  What two reads share is the same bits. */
static inline uint64_t read_tail(const unsigned char *p, size_t n)
{
    if (n >= 4) return read_4(p) | read_4(p + n - 4) << (8 * (n - 4));
    if (n == 0) return 0;
    return p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) | (uint64_t)p[n - 1] << (8 * (n - 1));
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 u128;
    u128 p = (u128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

uint64_t dan_hash(const void *bytes, size_t n, uint64_t seed)
{
    const uint64_t k0 = 0xa0761d6478bd642f, k1 = 0xe7037ed1a0b428db, k2 = 0x8ebc6af09c88c6e3;
    const unsigned char *p = bytes;
    uint64_t h = seed ^ mix(seed ^ k0, k1);
    size_t left = n;
    for (; left >= 16; p += 16, left -= 16) h = mix(read_8(p) ^ k1, read_8(p + 8) ^ h);
    uint64_t a = left >= 8 ? read_8(p) : read_tail(p, left);
    uint64_t b = left >= 8 ? read_tail(p + 8, left - 8) : 0;
    return mix(k1 ^ n, mix(a ^ k2, b ^ h));
}

struct dan_map *dan_map_new(void)
{
    struct dan_map *m = dan_calloc(1, sizeof *m);
    if (!m) return NULL;
    m->n_index = FIRST_INDEX;
    m->index = dan_calloc(m->n_index, sizeof *m->index);
    if (m->index) return m;
    dan_free(m);
    return NULL;
}

void dan_map_free(struct dan_map *m)
{
    if (!m) return;
    for (struct key_block *b = m->keys, *next; b; b = next) {
        next = b->next;
        dan_free(b);
    }
    dan_free(m->index);
    dan_free(m->entry);
    dan_free(m);
}

static uint32_t tag_of(uint64_t hash) { return (uint32_t)(hash >> 32); }

/* The entry of a key, or NULL with *free_slot the place in the index where it belongs. */
static struct entry *lookup(const struct dan_map *m, const void *key, size_t n, uint64_t hash, size_t *free_slot)
{
    size_t i = hash & (m->n_index - 1);
    for (; m->index[i].entry; i = (i + 1) & (m->n_index - 1)) {
        struct entry *e = &m->entry[m->index[i].entry - 1];
        if (m->index[i].tag != tag_of(hash)) continue;
        if (e->hash == hash && e->n == n && (n == 0 || memcmp(e->key, key, n) == 0)) return e;
    }
    *free_slot = i;
    return NULL;
}

static int index_resize(struct dan_map *m, size_t to)
{
    struct place *index = dan_calloc(to, sizeof *index);
    if (!index) return -1;
    for (size_t k = 0; k < m->n; k++) {
        size_t i = m->entry[k].hash & (to - 1);
        while (index[i].entry) i = (i + 1) & (to - 1);
        index[i] = (struct place){(uint32_t)k + 1, tag_of(m->entry[k].hash)};
    }
    dan_free(m->index);
    m->index = index;
    m->n_index = to;
    return 0;
}

int dan_map_reserve(struct dan_map *m, size_t n)
{
    size_t to = m->n_index;
    if (n >= UINT32_MAX - 1) return -1;
    while (to * 2 < n * 3) to *= 2;
    return (to > m->n_index && index_resize(m, to) != 0) || dan_vec_grow(&m->entry, &m->cap, n, sizeof *m->entry) != 0 ? -1 : 0;
}

static const char *key_copy(struct dan_map *m, const void *key, size_t n)
{
    struct key_block *b = m->keys;
    if (!b || b->cap - b->used <= n) {
        size_t cap = n + 1 > KEY_BLOCK ? n + 1 : KEY_BLOCK;
        b = dan_malloc(sizeof *b + cap);
        if (!b) return NULL;
        *b = (struct key_block){.next = m->keys, .cap = cap};
        m->keys = b;
    }
    char *p = b->bytes + b->used;
    if (n) memcpy(p, key, n);
    p[n] = 0;
    b->used += n + 1;
    return p;
}

bool dan_map_get(const struct dan_map *m, const void *key, size_t n, int64_t *value)
{
    size_t slot;
    const struct entry *e = lookup(m, key, n, dan_hash(key, n, 0), &slot);
    if (e && value) *value = e->value;
    return e != NULL;
}

/* Three looks into memory for each key, one after the other; those of different keys at once. */
static void get_some(const struct dan_map *m, struct dan_map_ask *ask, size_t n)
{
    uint64_t hash[SOME];
    for (size_t k = 0; k < n; k++) {
        hash[k] = dan_hash(ask[k].key, ask[k].n, 0);
        __builtin_prefetch(&m->index[hash[k] & (m->n_index - 1)]);
    }
    for (size_t k = 0; k < n; k++) {
        uint32_t entry = m->index[hash[k] & (m->n_index - 1)].entry;
        if (entry) __builtin_prefetch(&m->entry[entry - 1]);
    }
    for (size_t k = 0; k < n; k++) {
        uint32_t entry = m->index[hash[k] & (m->n_index - 1)].entry;
        if (entry) __builtin_prefetch(m->entry[entry - 1].key);
    }
    for (size_t k = 0; k < n; k++) {
        size_t slot;
        const struct entry *e = lookup(m, ask[k].key, ask[k].n, hash[k], &slot);
        ask[k].found = e != NULL;
        ask[k].value = e ? e->value : 0;
    }
}

void dan_map_get_many(const struct dan_map *m, struct dan_map_ask *ask, size_t n)
{
    for (size_t i = 0; i < n; i += SOME) get_some(m, ask + i, n - i < SOME ? n - i : SOME);
}

int64_t *dan_map_slot(struct dan_map *m, const void *key, size_t n)
{
    uint64_t hash = dan_hash(key, n, 0);
    size_t slot;
    struct entry *e = lookup(m, key, n, hash, &slot);
    if (e) return &e->value;
    if (m->n >= UINT32_MAX - 1 || dan_vec_grow(&m->entry, &m->cap, m->n + 1, sizeof *m->entry) != 0) return NULL;
    if ((m->n + 1) * 3 > m->n_index * 2) {
        if (index_resize(m, m->n_index * 2) != 0) return NULL;
        lookup(m, key, n, hash, &slot);
    }
    const char *copy = key_copy(m, key, n);
    if (!copy) return NULL;
    m->entry[m->n] = (struct entry){copy, n, hash, 0};
    m->index[slot] = (struct place){(uint32_t)++m->n, tag_of(hash)};
    return &m->entry[m->n - 1].value;
}

int dan_map_put(struct dan_map *m, const void *key, size_t n, int64_t value)
{
    int64_t *slot = dan_map_slot(m, key, n);
    if (!slot) return -1;
    *slot = value;
    return 0;
}

size_t dan_map_count(const struct dan_map *m) { return m->n; }

void dan_map_at(const struct dan_map *m, size_t i, const char **key, size_t *n, int64_t *value)
{
    const struct entry *e = &m->entry[i];
    if (key) *key = e->key;
    if (n) *n = e->n;
    if (value) *value = e->value;
}
