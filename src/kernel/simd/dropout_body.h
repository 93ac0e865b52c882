/* dropout on vectors; included by ISA/dropout.c after math_ISA.h and philox_ISA.h: the same numbers as base/rng.h, so the
 * same elements are kept as by the reference. */
#include <math.h>
#include "kernel/simd/half.h"
#include "kernel/simd/rows.h"
#include "op/attrs.h"

struct coin { uint64_t key, stream; float from, gain; };       /* kept: 24-bit number >= from */

/* n elements from `at` of x and y on; the first is element e of the whole. */
ALWAYS void span_of(const struct coin *c, bool half_x, bool half_y, const void *x, void *y, int64_t at, int64_t n, int64_t e)
{
    float u[PHILOX_BLOCK + VF];
    while (n > 0) {
        int64_t skip = e % 4, m = PHILOX_BLOCK - skip < n ? PHILOX_BLOCK - skip : n;
        philox_block(c->key, c->stream, (uint64_t)(e / 4), u);
        for (int64_t i = 0; i < m; i += VF) {
            vf kept = vf_mul(load_row(half_x, x, at + i, m - i), vf_set(c->gain));
            store_row(half_y, y, at + i, vf_less(vf_load(u + skip + i), vf_set(c->from), vf_set(0.f), kept), m - i);
        }
        at += m;
        e += m;
        n -= m;
    }
}

static void span(const struct coin *c, bool half_x, bool half_y, const void *x, void *y, int64_t at, int64_t n, int64_t e)
{
    if (half_x && half_y) span_of(c, true, true, x, y, at, n, e);
    else if (half_x) span_of(c, true, false, x, y, at, n, e);
    else if (half_y) span_of(c, false, true, x, y, at, n, e);
    else span_of(c, false, false, x, y, at, n, e);
}

static bool accepts(const struct dan_args *a) { return dan_f32_or_bf16(&a->in[0]) && dan_f32_or_bf16(&a->out[0]); }

static void run(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const int32_t *seed = a->in[1].data;
    const double p = a->attr[DAN_DROPOUT_P].f;
    const struct coin c = {(uint32_t)seed[0] | (uint64_t)(uint32_t)seed[1] << 32, (uint64_t)a->attr[DAN_DROPOUT_STREAM].i,
                           (float)ceil((double)(float)p * 16777216.0), (float)(1 / (1 - p))};
    struct rows r = rows_of(a, rows_contiguous(a, 1));
    int64_t e = a->row0 * r.cols;
    if (r.flat) span(&c, dan_is_bf16(x), dan_is_bf16(y), x->data, y->data, r.lo, r.hi - r.lo, e + r.lo);
    for (int64_t i = r.lo; !r.flat && i < r.hi; i++)
        span(&c, dan_is_bf16(x), dan_is_bf16(y), dan_row(x, i), dan_row(y, i), 0, r.cols, e + i * r.cols);
}
