/* Pairs of a long text that wait to be merged: by rank, then from the left.  An entry is rank << 32 | position; whether it is alive (the pair
 * there still has this rank) is for the user to know.
 *
 * A run of one character has few ranks with very many positions each, which come nearly always in order: such entries
 * wait in a list of their rank, and only the first of each list is in the heap, where its successor takes its place without a search.
 * What comes out of order, or finds the list taken by another rank, goes to the heap itself, so the order is that of one heap. */
#ifndef DAN_TEXT_RANK_QUEUE_H
#define DAN_TEXT_RANK_QUEUE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/mem.h"

#define DAN_QUEUE_END UINT32_MAX
enum { DAN_QUEUE_LISTS = 512 };
struct dan_waiting { uint32_t at, next; };     /* next: DAN_QUEUE_END: last; of a free one, the next free one */
struct dan_rank_list { int32_t rank; uint32_t first, last; };          /* first DAN_QUEUE_END: empty */

struct dan_rank_queue {
    uint64_t *heap;
    size_t n_heap, heap_cap;
    struct dan_waiting *wait;
    size_t n_wait, wait_cap;
    uint32_t free_wait;
    struct dan_rank_list list[DAN_QUEUE_LISTS];
    bool failed;                               /* out of memory */
};

static inline void dan_queue_init(struct dan_rank_queue *c)
{
    c->heap = NULL;
    c->wait = NULL;
    c->n_heap = c->heap_cap = c->n_wait = c->wait_cap = 0;
    c->free_wait = DAN_QUEUE_END;
    c->failed = false;
    for (int i = 0; i < DAN_QUEUE_LISTS; i++) c->list[i].first = DAN_QUEUE_END;
}

static inline void dan_queue_release(struct dan_rank_queue *c)
{
    dan_free(c->heap);
    dan_free(c->wait);
}

static inline uint64_t dan_queue_key(int32_t rank, uint32_t at) { return (uint64_t)(uint32_t)rank << 32 | at; }

static inline void dan_heap_push(struct dan_rank_queue *c, int32_t rank, uint32_t at)
{
    if (dan_vec_grow(&c->heap, &c->heap_cap, c->n_heap + 1, sizeof *c->heap) != 0) {
        c->failed = true;
        return;
    }
    uint64_t v = dan_queue_key(rank, at);
    size_t i = c->n_heap++;
    for (; i > 0 && c->heap[(i - 1) / 2] > v; i = (i - 1) / 2) c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = v;
}

/* v in the place of the first. */
static inline void dan_heap_exchange(struct dan_rank_queue *c, uint64_t v)
{
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < c->n_heap; i = k) {
        if (k + 1 < c->n_heap && c->heap[k + 1] < c->heap[k]) k++;
        if (c->heap[k] >= v) break;
        c->heap[i] = c->heap[k];
    }
    c->heap[i] = v;
}

static inline uint32_t dan_queue_waiting(struct dan_rank_queue *c, uint32_t at)
{
    uint32_t w = c->free_wait;
    if (w != DAN_QUEUE_END) c->free_wait = c->wait[w].next;
    else if (c->n_wait >= DAN_QUEUE_END || dan_vec_grow(&c->wait, &c->wait_cap, c->n_wait + 1, sizeof *c->wait) != 0) {
        c->failed = true;
        return DAN_QUEUE_END;
    } else w = (uint32_t)c->n_wait++;
    c->wait[w] = (struct dan_waiting){at, DAN_QUEUE_END};
    return w;
}

static inline struct dan_rank_list *dan_queue_list(struct dan_rank_queue *c, int32_t rank) { return &c->list[(uint32_t)rank % DAN_QUEUE_LISTS]; }

static inline void dan_queue_put(struct dan_rank_queue *c, int32_t rank, uint32_t at)
{
    struct dan_rank_list *l = dan_queue_list(c, rank);
    bool empty = l->first == DAN_QUEUE_END;
    if (!empty && (l->rank != rank || c->wait[l->last].at >= at)) {
        dan_heap_push(c, rank, at);
        return;
    }
    uint32_t w = dan_queue_waiting(c, at);
    if (w == DAN_QUEUE_END) return;
    if (empty) {
        *l = (struct dan_rank_list){rank, w, w};
        dan_heap_push(c, rank, at);
    } else {
        c->wait[l->last].next = w;
        l->last = w;
    }
}

/* The first entry, which goes; n_heap > 0. */
static inline uint64_t dan_queue_take(struct dan_rank_queue *c)
{
    uint64_t top = c->heap[0];
    struct dan_rank_list *l = dan_queue_list(c, (int32_t)(top >> 32));
    uint32_t w = l->first, next = DAN_QUEUE_END;
    if (w != DAN_QUEUE_END && l->rank == (int32_t)(top >> 32) && c->wait[w].at == (uint32_t)top) {
        next = l->first = c->wait[w].next;
        c->wait[w].next = c->free_wait;
        c->free_wait = w;
    }
    if (next != DAN_QUEUE_END) dan_heap_exchange(c, (top >> 32) << 32 | c->wait[next].at);
    else dan_heap_exchange(c, c->heap[--c->n_heap]);
    return top;
}

#endif
