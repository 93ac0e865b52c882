/* Elementwise kernels: this thread's spans of rows x columns.  When every tensor is contiguous the
 * whole is one long row; spans begin at multiples of 64 elements, so results do not depend on nth. */
#ifndef DAN_KERNEL_ROWS_H
#define DAN_KERNEL_ROWS_H
#include "core/args.h"

struct rows { int64_t n, cols, lo, hi; bool flat; };

static inline bool rows_f32(const struct dan_tensor *t) { return t->dtype == &dan_dtype_f32; }

static inline bool rows_contiguous(const struct dan_args *a, int n_in)
{
    bool all = dan_tensor_contiguous(&a->out[0]);
    for (int i = 0; i < n_in; i++) all = all && dan_tensor_contiguous(&a->in[i]);
    return all;
}

/* flat: [lo, hi) elements of one row; else [lo, hi) rows. */
static inline struct rows rows_of(const struct dan_args *a, bool flat)
{
    struct rows r = {.n = dan_rows(&a->out[0]), .cols = dan_cols(&a->out[0]), .flat = flat};
    if (flat) dan_share(a, r.n * r.cols, 64, &r.lo, &r.hi);
    else dan_share(a, r.n, 1, &r.lo, &r.hi);
    return r;
}

#endif
