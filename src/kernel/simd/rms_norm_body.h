/* rms_norm, row by row.  After math_ISA.h and round_ISA.h. */
#include "kernel/simd/norm_out.h"

static bool accepts(const struct dan_args *a) { return norm_out_accepts(a, 0, 1, 0); }

static void run(const struct dan_args *a)
{
    int64_t lo, hi, c = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const float *x = dan_row(&a->in[0], r);
        norm_out(a, x, c, rms_stats(x, c, (float)a->attr[DAN_NORM_EPS].f), a->in[1].data, NULL, &a->out[0], r);
    }
}
