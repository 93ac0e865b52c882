/* swiglu and swiglu_grad on vectors: g = first half, u = second half of a row, y = silu(g) u. */
#include "core/args.h"
#include "kernel/simd/rows.h"

static vf load(const float *p, int64_t left) { return left >= VF ? vf_load(p) : vf_load_n(p, left); }
static void store(float *p, vf x, int64_t left)
{
    if (left >= VF) vf_store(p, x);
    else vf_store_n(p, x, left);
}

static void row(const float *x, float *y, int64_t f)
{
    for (int64_t i = 0; i < f; i += VF) {
        vf g = load(x + i, f - i), u = load(x + f + i, f - i);
        store(y + i, vf_mul(vf_mul(g, vf_sigmoid(g)), u), f - i);
    }
}

/* dg = dy u s (1 + g (1 - s)), du = dy g s, s = sigmoid(g) */
static void row_grad(const float *x, const float *dy, float *dx, int64_t f)
{
    for (int64_t i = 0; i < f; i += VF) {
        vf g = load(x + i, f - i), u = load(x + f + i, f - i), d = load(dy + i, f - i), s = vf_sigmoid(g);
        store(dx + i, vf_mul(vf_mul(d, u), vf_mul(s, vf_fma(g, vf_sub(vf_set(1.f), s), vf_set(1.f)))), f - i);
        store(dx + f + i, vf_mul(d, vf_mul(g, s)), f - i);
    }
}

static bool accepts(const struct dan_args *a)
{
    return rows_f32(&a->in[0]) && (a->n_in < 2 || rows_f32(&a->in[1]));
}

static void run_swiglu(const struct dan_args *a)
{
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) row(dan_row(&a->in[0], i), dan_row(&a->out[0], i), dan_cols(&a->out[0]));
}

static void run_grad(const struct dan_args *a)
{
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) row_grad(dan_row(&a->in[0], i), dan_row(&a->in[1], i), dan_row(&a->out[0], i), dan_cols(&a->in[1]));
}
