/* The one sum that sum, sum_all and sum_to are made of. */
#ifndef DAN_OP_REDUCE_H
#define DAN_OP_REDUCE_H
#include "op/util.h"

enum { DAN_REDUCE_TILE = 64 };                 /* outputs summed side by side: rows of x are read along memory */

/* Start of the k-th row of x that falls on output element e; dims with kept 1 are summed. */
static inline const char *dan_reduce_row(const struct dan_tensor *x, const struct dan_shape *kept, int64_t e, int64_t k)
{
    const char *p = x->data;
    e /= kept->d[kept->n - 1];
    for (int i = kept->n - 2; i >= 0; i--) {
        int64_t *at = kept->d[i] == 1 ? &k : &e, dim = x->shape.d[i];
        p += *at % dim * x->stride[i];
        *at /= dim;
    }
    return p;
}

/* Adds n rows to the outputs e .. e + width of one output row, in a fixed order, in double. */
static inline void dan_reduce_tile(const struct dan_tensor *x, const struct dan_shape *kept, int64_t e, int64_t width, int64_t n, real *y)
{
    double acc[DAN_REDUCE_TILE] = {0};
    int64_t last = kept->d[kept->n - 1], c0 = e % last;
    bool whole_rows = last == 1;
    for (int64_t k = 0; k < n; k++) {
        const real *row = (const real *)dan_reduce_row(x, kept, e, k) + c0;
        if (whole_rows)
            for (int64_t c = 0; c < dan_cols(x); c++) acc[0] += (double)row[c];
        else
            for (int64_t c = 0; c < width; c++) acc[c] += (double)row[c];
    }
    for (int64_t c = 0; c < width; c++) y[e + c] = (real)acc[c];
}

/* y[kept] = sum of x over the dimensions where kept has 1.  kept has the rank of x (at least 1), its
 * dims are x's or 1; y is contiguous.  Threads share the outputs, never one sum. */
static inline void dan_reduce_ref(const struct dan_args *a, const struct dan_tensor *x, struct dan_shape kept, real *y)
{
    int64_t n = 1, lo, hi, last = kept.d[kept.n - 1];
    for (int i = 0; i + 1 < kept.n; i++)
        if (kept.d[i] == 1) n *= x->shape.d[i];
    dan_share(a, dan_shape_count(&kept), 16, &lo, &hi);
    while (lo < hi) {
        int64_t width = last - lo % last;
        if (width > hi - lo) width = hi - lo;
        if (width > DAN_REDUCE_TILE) width = DAN_REDUCE_TILE;
        dan_reduce_tile(x, &kept, lo, width, n, y);
        lo += width;
    }
}

#endif
