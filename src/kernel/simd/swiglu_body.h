/* swiglu and swiglu_grad on vectors: g = first half, u = second half of a row, y = silu(g) u. */
#include "core/args.h"
#include "kernel/simd/half.h"

/* half: x, y, dy and dx are all stored as bf16 */
ALWAYS void row(bool half, const void *x, void *y, int64_t f)
{
    for (int64_t i = 0; i < f; i += VF) {
        vf g = load_row(half, x, i, f - i), u = load_row(half, x, f + i, f - i);
        store_row(half, y, i, vf_mul(vf_mul(g, vf_sigmoid(g)), u), f - i);
    }
}

/* dg = dy u s (1 + g (1 - s)), du = dy g s, s = sigmoid(g) */
ALWAYS void row_grad(bool half, const void *x, const void *dy, void *dx, int64_t f)
{
    for (int64_t i = 0; i < f; i += VF) {
        int64_t n = f - i;
        vf g = load_row(half, x, i, n), u = load_row(half, x, f + i, n), d = load_row(half, dy, i, n), s = vf_sigmoid(g);
        store_row(half, dx, i, vf_mul(vf_mul(d, u), vf_mul(s, vf_fma(g, vf_sub(vf_set(1.f), s), vf_set(1.f)))), n);
        store_row(half, dx, f + i, vf_mul(d, vf_mul(g, s)), n);
    }
}

/* One storage for all. */
static bool accepts(const struct dan_args *a)
{
    for (int i = 1; i < a->n_in; i++)
        if (a->in[i].dtype != a->in[0].dtype) return false;
    return dan_f32_or_bf16(&a->in[0]) && a->out[0].dtype == a->in[0].dtype;
}

static void run_swiglu(const struct dan_args *a)
{
    int64_t lo, hi, f = dan_cols(&a->out[0]);
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        if (dan_is_bf16(&a->in[0])) row(true, dan_row(&a->in[0], i), dan_row(&a->out[0], i), f);
        else row(false, dan_row(&a->in[0], i), dan_row(&a->out[0], i), f);
    }
}

static void run_grad(const struct dan_args *a)
{
    int64_t lo, hi, f = dan_cols(&a->in[1]);
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        if (dan_is_bf16(&a->in[0])) row_grad(true, dan_row(&a->in[0], i), dan_row(&a->in[1], i), dan_row(&a->out[0], i), f);
        else row_grad(false, dan_row(&a->in[0], i), dan_row(&a->in[1], i), dan_row(&a->out[0], i), f);
    }
}
