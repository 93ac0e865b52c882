#include "align/pack.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

int dan_packed_init(struct dan_packed *p, int64_t max_rows, struct dan_err *e)
{
    enum { ARRAYS = 8 };
    size_t n = ((size_t)max_rows + 15) & ~(size_t)15;
    *p = (struct dan_packed){.max_rows = max_rows, .memory = dan_calloc(n * ARRAYS, sizeof *p->memory)};
    if (!p->memory) return dan_fail(e, DAN_ENOMEM, "not enough memory for batches of %lld rows", (long long)max_rows);
    struct dan_batch *b = &p->batch;
    int32_t **where[] = {&b->tokens, &b->targets, &b->pos, &b->start, &b->stop, &b->self, &b->reset};
    for (int i = 0; i < 7; i++) *where[i] = p->memory + n * (size_t)i;
    b->weights = (float *)(p->memory + n * 7);
    return DAN_OK;
}

void dan_packed_release(struct dan_packed *p)
{
    dan_free(p->memory);
    *p = (struct dan_packed){0};
}

void dan_packed_clear(struct dan_packed *p)
{
    p->batch.rows = p->batch.targets_n = 0;
    p->sequences = 0;
}

/* Rows for the first n ids of a sequence; weight[n]: theirs. */
static int64_t append(struct dan_packed *p, const int32_t *ids, int64_t n, const float *weight)
{
    struct dan_batch *b = &p->batch;
    int64_t first = b->rows;
    for (int64_t i = 0; i < n; i++) {
        int64_t r = first + i;
        b->tokens[r] = ids[i];
        b->weights[r] = weight ? weight[i] : 0;
        b->pos[r] = (int32_t)i;
        b->start[r] = (int32_t)first;
        b->stop[r] = (int32_t)(first + n);
        b->self[r] = (int32_t)r;
        b->reset[r] = i == 0;
        b->targets_n += weight && weight[i] != 0;
    }
    b->rows += n;
    p->sequences++;
    return first;
}

int64_t dan_packed_add(struct dan_packed *p, const int32_t *ids, int64_t n, const float *weight)
{
    DAN_ASSERT(dan_packed_fits(p, n));
    memcpy(p->batch.targets + p->batch.rows, ids + 1, (size_t)(n - 1) * sizeof *ids);
    return append(p, ids, n - 1, weight ? weight + 1 : NULL);
}

int64_t dan_packed_add_learnt(struct dan_packed *p, const int32_t *ids, int64_t n, const uint8_t *learn, const float *weight)
{
    int64_t first = dan_packed_add(p, ids, n, weight);
    for (int64_t i = 1; i < n; i++)
        if (!learn[i]) p->batch.targets[first + i - 1] = -1;
    return first;
}

int64_t dan_packed_add_answer(struct dan_packed *p, const int32_t *ids, int64_t n, int64_t given)
{
    int64_t first = dan_packed_add(p, ids, n, NULL);
    for (int64_t i = 1; i < given; i++) p->batch.targets[first + i - 1] = -1;
    return first;
}

int64_t dan_packed_add_all(struct dan_packed *p, const int32_t *ids, int64_t n, const float *weight)
{
    DAN_ASSERT(dan_packed_fits_all(p, n));
    memcpy(p->batch.targets + p->batch.rows, ids + 1, (size_t)(n - 1) * sizeof *ids);
    p->batch.targets[p->batch.rows + n - 1] = -1;
    return append(p, ids, n, weight);
}

struct item { int64_t length, index; };

static int longest_first(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

/* The fullest bin that still takes `length`; `bins` for a new one. */
static int64_t best_bin(const int64_t *room, int64_t bins, int64_t length)
{
    int64_t best = bins;
    for (int64_t k = 0; k < bins; k++)
        if (room[k] >= length && (best == bins || room[k] < room[best])) best = k;
    return best;
}

int64_t dan_packed_plan(const int64_t *length, int64_t n, int64_t most, int64_t *bin)
{
    struct item *order = dan_malloc(((size_t)n + 1) * sizeof *order);
    int64_t *room = dan_malloc(((size_t)n + 1) * sizeof *room), bins = order && room ? 0 : -1;
    for (int64_t i = 0; i < n && bins >= 0; i++) order[i] = (struct item){length[i], i};
    if (bins >= 0) qsort(order, (size_t)n, sizeof *order, longest_first);
    for (int64_t i = 0; i < n && bins >= 0; i++) {
        int64_t k = best_bin(room, bins, order[i].length);
        if (k == bins) room[bins++] = most;
        room[k] -= order[i].length;
        bin[order[i].index] = k;
    }
    dan_free(order);
    dan_free(room);
    return bins;
}
