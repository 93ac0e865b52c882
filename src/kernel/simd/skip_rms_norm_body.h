/* skip_rms_norm: the sum of a row is normed while it is in cache.  Include math_ISA.h before. */
#include "kernel/simd/norm_rows.h"

static bool accepts(const struct dan_args *a) { return norm_accepts(a, 2, 2); }

static void run(const struct dan_args *a)
{
    int64_t lo, hi, c = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        float *sum = dan_row(&a->out[0], r);
        add_row(dan_row(&a->in[0], r), &a->in[1], r, sum);
        norm_row(sum, rms_stats(sum, c, (float)a->attr[DAN_NORM_EPS].f), a->in[2].data, NULL, &a->out[1], r);
    }
}
