/* BPE of one pre-token: again and again the adjacent pair of lowest rank, leftmost first, becomes one
 * token.  Words are short (98 % below 16 bytes): a scan of an array on the stack.  Long runs take a heap and lists,
 * O(n log n), so that a megabyte of one character costs milliseconds, not days. */
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"

enum { SHORT = 64, NONE = INT32_MAX };         /* NONE: above every rank */

/* First ids of the bytes; left out or <unk> is never silent. */
static int byte_id(const struct dan_tokenizer *t, char byte, int flags, int32_t *id, struct dan_err *e)
{
    *id = t->byte_id[(unsigned char)byte];
    if (*id >= 0) return DAN_OK;
    if (!(flags & DAN_ENCODE_UNK) || t->unk < 0)
        return dan_fail(e, DAN_EINVAL, "byte 0x%02X is not in the vocabulary of this tokenizer; remove it from the text or use another "
                        "tokenizer", (unsigned char)byte);
    *id = t->unk;
    return DAN_OK;
}

static int32_t pair_rank(const struct dan_tokenizer *t, int32_t left, int32_t right)
{
    const struct dan_merge *m = dan_merge_find(t, left, right);
    return m ? m->rank : NONE;
}

static int32_t byte_pair_rank(const struct dan_tokenizer *t, const char *p)
{
    int32_t r = t->byte_pair_rank[(unsigned char)p[0] << 8 | (unsigned char)p[1]];
    return r == DAN_NO_RANK ? NONE : r;
}

static void take_out(int32_t *v, int at, int n) { memmove(v + at, v + at + 1, (size_t)(n - at - 1) * sizeof *v); }

/* rank[i] is of the pair (i, i + 1); rank[n - 1] is NONE. */
static int merge_short(const struct dan_tokenizer *t, const char *p, int n, int flags, struct dan_ids *out, struct dan_err *e)
{
    int32_t id[SHORT], rank[SHORT];
    for (int i = 0; i < n; i++) {
        int r = byte_id(t, p[i], flags, &id[i], e);
        if (r) return r;
    }
    for (int i = 0; i + 1 < n; i++) rank[i] = byte_pair_rank(t, p + i);
    rank[n - 1] = NONE;
    for (;;) {
        int at = 0;
        for (int i = 1; i < n; i++) at = rank[i] < rank[at] ? i : at;
        if (rank[at] == NONE) break;
        id[at] = t->merge_id[rank[at]];
        take_out(id, at + 1, n);
        take_out(rank, at, n);
        n--;
        rank[at] = at + 1 < n ? pair_rank(t, id[at], id[at + 1]) : NONE;
        if (at > 0) rank[at - 1] = pair_rank(t, id[at - 1], id[at]);
    }
    for (int i = 0; i < n; i++) dan_ids_push(out, id[i]);
    return DAN_OK;
}

/* A doubly linked list over positions, and a binary heap of rank << 32 | position.  An entry is alive when the pair at its position still
 * has its rank.  A run of one character has few ranks with very many positions each, which come nearly always in order: such entries
 * wait in a list of their rank, and only the first of each list is in the heap, where its successor takes its place without a search.
 * What comes out of order, or finds the list taken by another rank, goes to the heap itself, so the order is that of one heap. */
struct waiting { uint32_t at, next; };         /* next: CHAIN_END: last; of a free one, the next free one */
struct list { int32_t rank; uint32_t first, last; };       /* first CHAIN_END: empty */
enum { N_LISTS = 512 };
#define CHAIN_END UINT32_MAX

struct part { int32_t id, rank; uint32_t next, prev; };    /* next, prev: CHAIN_END: end */
struct chain {
    struct part *part;
    uint64_t *heap;
    size_t n_heap, heap_cap;
    struct waiting *wait;
    size_t n_wait, wait_cap;
    uint32_t free_wait;
    struct list list[N_LISTS];
    bool failed;
};

static uint64_t key_of(int32_t rank, uint32_t at) { return (uint64_t)(uint32_t)rank << 32 | at; }

static void heap_push(struct chain *c, int32_t rank, uint32_t at)
{
    if (dan_vec_grow(&c->heap, &c->heap_cap, c->n_heap + 1, sizeof *c->heap) != 0) {
        c->failed = true;
        return;
    }
    uint64_t v = key_of(rank, at);
    size_t i = c->n_heap++;
    for (; i > 0 && c->heap[(i - 1) / 2] > v; i = (i - 1) / 2) c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = v;
}

/* v in the place of the first. */
static void heap_exchange(struct chain *c, uint64_t v)
{
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < c->n_heap; i = k) {
        if (k + 1 < c->n_heap && c->heap[k + 1] < c->heap[k]) k++;
        if (c->heap[k] >= v) break;
        c->heap[i] = c->heap[k];
    }
    c->heap[i] = v;
}

static uint32_t new_waiting(struct chain *c, uint32_t at)
{
    uint32_t w = c->free_wait;
    if (w != CHAIN_END) c->free_wait = c->wait[w].next;
    else if (c->n_wait >= CHAIN_END || dan_vec_grow(&c->wait, &c->wait_cap, c->n_wait + 1, sizeof *c->wait) != 0) {
        c->failed = true;
        return CHAIN_END;
    } else w = (uint32_t)c->n_wait++;
    c->wait[w] = (struct waiting){at, CHAIN_END};
    return w;
}

static struct list *list_of(struct chain *c, int32_t rank) { return &c->list[(uint32_t)rank % N_LISTS]; }

static void put(struct chain *c, int32_t rank, uint32_t at)
{
    if (rank == NONE) return;
    struct list *l = list_of(c, rank);
    bool empty = l->first == CHAIN_END;
    if (!empty && (l->rank != rank || c->wait[l->last].at >= at)) {
        heap_push(c, rank, at);
        return;
    }
    uint32_t w = new_waiting(c, at);
    if (w == CHAIN_END) return;
    if (empty) {
        *l = (struct list){rank, w, w};
        heap_push(c, rank, at);
    } else {
        c->wait[l->last].next = w;
        l->last = w;
    }
}

static uint64_t take(struct chain *c)
{
    uint64_t top = c->heap[0];
    struct list *l = list_of(c, (int32_t)(top >> 32));
    uint32_t w = l->first, next = CHAIN_END;
    if (w != CHAIN_END && l->rank == (int32_t)(top >> 32) && c->wait[w].at == (uint32_t)top) {
        next = l->first = c->wait[w].next;
        c->wait[w].next = c->free_wait;
        c->free_wait = w;
    }
    if (next != CHAIN_END) heap_exchange(c, (top >> 32) << 32 | c->wait[next].at);
    else heap_exchange(c, c->heap[--c->n_heap]);
    return top;
}

/* The first of the heap is alive after this. */
static void drop_dead(struct chain *c)
{
    while (c->n_heap && c->part[(uint32_t)c->heap[0]].rank != (int32_t)(c->heap[0] >> 32)) take(c);
}

static int32_t rank_of(const struct dan_tokenizer *t, struct chain *c, uint32_t at)
{
    uint32_t j = c->part[at].next;
    return c->part[at].rank = j == CHAIN_END ? NONE : pair_rank(t, c->part[at].id, c->part[j].id);
}

/* In a run the next that is joined is the one behind, which ranks this one anew: a pair that would only wait until then does not. */
static void join(const struct dan_tokenizer *t, struct chain *c, uint32_t at)
{
    uint32_t gone = c->part[at].next, after = c->part[gone].next, before = c->part[at].prev;
    int32_t rank = c->part[at].rank;
    c->part[at].id = t->merge_id[rank];
    c->part[gone].rank = NONE;
    c->part[at].next = after;
    if (after != CHAIN_END) c->part[after].prev = at;
    if (before != CHAIN_END) put(c, rank_of(t, c, before), before);
    int32_t own = rank_of(t, c, at);
    drop_dead(c);
    bool passing = own > rank && after != CHAIN_END && c->n_heap && c->heap[0] == key_of(rank, after);
    if (!passing) put(c, own, at);
}

/* Every byte is a part. */
static int chain_start(const struct dan_tokenizer *t, const char *p, uint32_t n, int flags, struct chain *c, struct dan_err *e)
{
    for (int i = 0; i < N_LISTS; i++) c->list[i].first = CHAIN_END;
    for (uint32_t i = 0; i < n; i++) {
        bool last = i + 1 == n;
        struct part *part = &c->part[i];
        part->rank = last ? NONE : byte_pair_rank(t, p + i);
        part->next = last ? CHAIN_END : i + 1;
        part->prev = i ? i - 1 : CHAIN_END;
        int r = byte_id(t, p[i], flags, &part->id, e);
        if (r) return r;
        put(c, part->rank, i);
    }
    return DAN_OK;
}

static void chain_run(const struct dan_tokenizer *t, struct chain *c, struct dan_ids *out)
{
    for (drop_dead(c); c->n_heap && !c->failed; drop_dead(c)) join(t, c, (uint32_t)take(c));
    for (uint32_t i = 0; i != CHAIN_END; i = c->part[i].next) dan_ids_push(out, c->part[i].id);
}

static int merge_long(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *out, struct dan_err *e)
{
    if (n >= UINT32_MAX) return dan_fail(e, DAN_EINVAL, "a run of %zu bytes without a break is too long; cut the text below 4 GiB", n);
    struct chain c = {.part = dan_malloc(n * sizeof *c.part), .free_wait = CHAIN_END};
    c.failed = !c.part;
    int r = c.failed ? DAN_OK : chain_start(t, p, (uint32_t)n, flags, &c, e);
    if (!c.failed && r == DAN_OK) chain_run(t, &c, out);
    dan_free(c.part);
    dan_free(c.heap);
    dan_free(c.wait);
    return c.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a run of %zu bytes without a break; cut the text", n) : r;
}

int dan_bpe_merge(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *out, struct dan_err *e)
{
    int64_t id;
    if (t->ignore_merges && dan_map_get(t->by_bytes, p, n, &id)) {
        dan_ids_push(out, (int32_t)id);
        return DAN_OK;
    }
    return n <= SHORT ? merge_short(t, p, (int)n, flags, out, e) : merge_long(t, p, n, flags, out, e);
}
