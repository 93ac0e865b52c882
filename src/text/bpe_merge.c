/* BPE of one pre-token: again and again the adjacent pair of lowest rank, leftmost first, becomes one
 * token.  Words are short (98 % below 16 bytes): a scan of an array on the stack.  Long runs take a heap and lists,
 * O(n log n), so that a megabyte of one character costs milliseconds, not days. */
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"
#include "text/rank_queue.h"

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

/* A doubly linked list over positions, and the pairs that wait (rank_queue.h); one is alive when the pair at its position still has its
 * rank. */
#define CHAIN_END UINT32_MAX

struct part { int32_t id, rank; uint32_t next, prev; };    /* next, prev: CHAIN_END: end */
struct chain { struct part *part; struct dan_rank_queue q; };

static void put(struct chain *c, int32_t rank, uint32_t at)
{
    if (rank != NONE) dan_queue_put(&c->q, rank, at);
}

/* The first of the heap is alive after this. */
static void drop_dead(struct chain *c)
{
    while (c->q.n_heap && c->part[(uint32_t)c->q.heap[0]].rank != (int32_t)(c->q.heap[0] >> 32)) dan_queue_take(&c->q);
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
    bool passing = own > rank && after != CHAIN_END && c->q.n_heap && c->q.heap[0] == dan_queue_key(rank, after);
    if (!passing) put(c, own, at);
}

/* Every byte is a part. */
static int chain_start(const struct dan_tokenizer *t, const char *p, uint32_t n, int flags, struct chain *c, struct dan_err *e)
{
    dan_queue_init(&c->q);
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
    for (drop_dead(c); c->q.n_heap && !c->q.failed; drop_dead(c)) join(t, c, (uint32_t)dan_queue_take(&c->q));
    for (uint32_t i = 0; i != CHAIN_END; i = c->part[i].next) dan_ids_push(out, c->part[i].id);
}

static int merge_long(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *out, struct dan_err *e)
{
    if (n >= UINT32_MAX) return dan_fail(e, DAN_EINVAL, "a run of %zu bytes without a break is too long; cut the text below 4 GiB", n);
    struct chain c = {.part = dan_malloc(n * sizeof *c.part)};
    int r = c.part ? chain_start(t, p, (uint32_t)n, flags, &c, e) : DAN_OK;
    bool failed = !c.part || c.q.failed;
    if (!failed && r == DAN_OK) {
        chain_run(t, &c, out);
        failed = c.q.failed;
    }
    dan_free(c.part);
    dan_queue_release(&c.q);
    return failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a run of %zu bytes without a break; cut the text", n) : r;
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
