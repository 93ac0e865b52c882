/* BPE of one pre-token: again and again the adjacent pair of lowest rank, leftmost first, becomes one
 * token.  Words are short (98 % below 16 bytes): a scan of an array on the stack.  Long runs take a heap,
 * O(n log n), so that a megabyte of one character costs seconds, not days. */
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"

enum { SHORT = 64, NONE = INT32_MAX };         /* NONE: above every rank */

/* First ids of the bytes; left out or <unk> is never silent. */
static int byte_ids(const struct dan_tokenizer *t, const char *p, size_t n, int flags, int32_t *id, struct dan_err *e)
{
    for (size_t i = 0; i < n; i++) {
        id[i] = t->byte_id[(unsigned char)p[i]];
        if (id[i] >= 0) continue;
        if (!(flags & DAN_ENCODE_UNK) || t->unk < 0)
            return dan_fail(e, DAN_EINVAL, "byte 0x%02X is not in the vocabulary of this tokenizer; remove it from the text or use another "
                            "tokenizer", (unsigned char)p[i]);
        id[i] = t->unk;
    }
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
    int r = byte_ids(t, p, (size_t)n, flags, id, e);
    if (r) return r;
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

/* A doubly linked list over positions, and a binary heap of rank << 32 | position.  An entry is alive when
 * the pair at its position still has its rank. */
struct chain {
    int32_t *id, *rank;
    uint32_t *next, *prev;                     /* UINT32_MAX: end */
    uint64_t *heap;
    size_t n_heap, heap_cap;
    bool failed;
};
#define CHAIN_END UINT32_MAX

static void heap_push(struct chain *c, int32_t rank, uint32_t at)
{
    if (rank == NONE) return;
    if (dan_vec_grow(&c->heap, &c->heap_cap, c->n_heap + 1, sizeof *c->heap) != 0) {
        c->failed = true;
        return;
    }
    uint64_t v = (uint64_t)(uint32_t)rank << 32 | at;
    size_t i = c->n_heap++;
    for (; i > 0 && c->heap[(i - 1) / 2] > v; i = (i - 1) / 2) c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = v;
}

static uint64_t heap_pop(struct chain *c)
{
    uint64_t top = c->heap[0], v = c->heap[--c->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < c->n_heap; i = k) {
        if (k + 1 < c->n_heap && c->heap[k + 1] < c->heap[k]) k++;
        if (c->heap[k] >= v) break;
        c->heap[i] = c->heap[k];
    }
    c->heap[i] = v;
    return top;
}

static void rank_again(const struct dan_tokenizer *t, struct chain *c, uint32_t at)
{
    uint32_t j = c->next[at];
    c->rank[at] = j == CHAIN_END ? NONE : pair_rank(t, c->id[at], c->id[j]);
    heap_push(c, c->rank[at], at);
}

static void join(const struct dan_tokenizer *t, struct chain *c, uint32_t at)
{
    uint32_t gone = c->next[at], after = c->next[gone];
    c->id[at] = t->merge_id[c->rank[at]];
    c->rank[gone] = NONE;
    c->next[at] = after;
    if (after != CHAIN_END) c->prev[after] = at;
    rank_again(t, c, at);
    if (c->prev[at] != CHAIN_END) rank_again(t, c, c->prev[at]);
}

static void chain_run(const struct dan_tokenizer *t, const char *p, uint32_t n, struct chain *c, struct dan_ids *out)
{
    for (uint32_t i = 0; i < n; i++) {
        c->next[i] = i + 1 < n ? i + 1 : CHAIN_END;
        c->prev[i] = i ? i - 1 : CHAIN_END;
        c->rank[i] = i + 1 < n ? byte_pair_rank(t, p + i) : NONE;
        heap_push(c, c->rank[i], i);
    }
    while (c->n_heap && !c->failed) {
        uint64_t top = heap_pop(c);
        uint32_t at = (uint32_t)top;
        if (c->rank[at] == (int32_t)(top >> 32)) join(t, c, at);
    }
    for (uint32_t i = 0; i != CHAIN_END; i = c->next[i]) dan_ids_push(out, c->id[i]);
}

static int merge_long(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *out, struct dan_err *e)
{
    if (n >= UINT32_MAX) return dan_fail(e, DAN_EINVAL, "a run of %zu bytes without a break is too long; cut the text below 4 GiB", n);
    struct chain c = {.id = dan_malloc(n * 4), .rank = dan_malloc(n * 4), .next = dan_malloc(n * 4), .prev = dan_malloc(n * 4)};
    int r = DAN_OK;
    c.failed = !c.id || !c.rank || !c.next || !c.prev;
    if (!c.failed) r = byte_ids(t, p, n, flags, c.id, e);
    if (!c.failed && r == DAN_OK) chain_run(t, p, (uint32_t)n, &c, out);
    dan_free(c.id);
    dan_free(c.rank);
    dan_free(c.next);
    dan_free(c.prev);
    dan_free(c.heap);
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
