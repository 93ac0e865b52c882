/* Sequences of any length as the packed rows of a program (R2): they do not see each other, so packing changes no bit of any of them. */
#ifndef DAN_ALIGN_PACK_H
#define DAN_ALIGN_PACK_H
#include "data/batches.h"

struct dan_packed {
    struct dan_batch batch;                    /* batch.rows rows are filled */
    int64_t max_rows, sequences;
    int32_t *memory;
};
int  dan_packed_init(struct dan_packed *p, int64_t max_rows, struct dan_err *e);
void dan_packed_release(struct dan_packed *p);
void dan_packed_clear(struct dan_packed *p);
/* A sequence of n ids takes n - 1 rows: each reads one id and predicts the next, with weight[of the next] (NULL: 0). */
static inline bool dan_packed_fits(const struct dan_packed *p, int64_t n) { return n >= 2 && p->batch.rows + n - 1 <= p->max_rows; }
/* Appends what fits; the result is its first row: row first + i predicts ids[i + 1]. */
int64_t dan_packed_add(struct dan_packed *p, const int32_t *ids, int64_t n, const float *weight);

/* The same, where only the ids with learn[i] are wanted: the other rows have no target, their nll is 0, and they cost no head. */
int64_t dan_packed_add_learnt(struct dan_packed *p, const int32_t *ids, int64_t n, const uint8_t *learn, const float *weight);
/* The same, where what is wanted is the answer behind the first `given` ids, 1 <= given; weights are 0. */
int64_t dan_packed_add_answer(struct dan_packed *p, const int32_t *ids, int64_t n, int64_t given);
/* A sequence of n ids as n rows, a number read at each id: weight[of the id] (NULL: 0).  For values (DAN_HEAD_SCORE), where the last id counts, too; the
 * last row has no target. */
static inline bool dan_packed_fits_all(const struct dan_packed *p, int64_t n) { return n >= 1 && p->batch.rows + n <= p->max_rows; }
int64_t dan_packed_add_all(struct dan_packed *p, const int32_t *ids, int64_t n, const float *weight);

/* Bins of at most `most` rows for n sequences of length[n] (rows, each <= most): best fit, longest first, ties by index.  bin[n] gets the
 * bins' numbers, 0 ..; returns how many, -1 out of memory.  O(n log n + n bins). */
int64_t dan_packed_plan(const int64_t *length, int64_t n, int64_t most, int64_t *bin);

#endif
