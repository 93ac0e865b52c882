/* rope: every head of a row is turned by the row's cosines and sines.  Include vec_ISA.h before. */
#include <string.h>
#include "base/sys.h"
#include "core/args.h"
#include "op/attrs.h"

/* A head of d dims of which the first 2 half turn; cs: half cosines, then the sines. */
static void rotate(const float *x, float *y, const float *cs, bool back, int64_t half, int64_t d)
{
    const float *sn = cs + half;
    vf zero = vf_set(0);
    for (int64_t i = 0; i < half; i += VF) {
        int64_t n = half - i;
        vf x0 = vf_load_n(x + i, n), x1 = vf_load_n(x + half + i, n), c = vf_load_n(cs + i, n), s = vf_load_n(sn + i, n);
        if (back) s = vf_sub(zero, s);
        vf_store_n(y + i, vf_sub(vf_mul(x0, c), vf_mul(x1, s)), n);
        vf_store_n(y + half + i, vf_fma(x1, c, vf_mul(x0, s)), n);
    }
    if (d > 2 * half) memcpy(y + 2 * half, x + 2 * half, (size_t)(d - 2 * half) * sizeof *y);
}

static bool accepts(const struct dan_args *a) { return a->in[0].dtype == &dan_dtype_f32; }

static void run(const struct dan_args *a)
{
    const int64_t d = a->attr[DAN_ROPE_DIM].i, half = dan_cols(&a->in[1]) / 2;
    const bool back = a->attr[DAN_ROPE_BACKWARD].i;
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const float *x = dan_row(&a->in[0], r), *table = dan_row(&a->in[1], r);
        float *y = dan_row(&a->out[0], r);
        for (int64_t h = 0; h < dan_cols(&a->in[0]); h += d) rotate(x + h, y + h, table, back, half, d);
    }
}
