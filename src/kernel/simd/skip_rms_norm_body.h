/* skip_rms_norm: the sum of a row is normed while it is in cache.  After math_ISA.h and round_ISA.h. */
#include "kernel/simd/norm_out.h"

static bool accepts(const struct dan_args *a) { return norm_out_accepts(a, 2, 2, 1); }

static void run(const struct dan_args *a)
{
    int64_t lo, hi, c = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        float *sum = dan_row(&a->out[0], r);
        add_row(dan_row(&a->in[0], r), &a->in[1], r, sum);
        norm_out(a, sum, c, rms_stats(sum, c, (float)a->attr[DAN_NORM_EPS].f), a->in[2].data, NULL, &a->out[1], r);
    }
}
