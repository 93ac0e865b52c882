/* layer_norm, row by row.  Include math_ISA.h before. */
#include "kernel/simd/norm_rows.h"

static bool accepts(const struct dan_args *a) { return norm_accepts(a, 0, 1); }

static void run(const struct dan_args *a)
{
    int64_t lo, hi, c = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const float *x = dan_row(&a->in[0], r);
        norm_row(x, layer_stats(x, c, (float)a->attr[DAN_NORM_EPS].f), a->in[1].data, a->in[2].data, &a->out[0], r);
    }
}
