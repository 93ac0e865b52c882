/* act and act_grad on vectors; included by ISA/act.c after math_ISA.h.  Kind and storage are constants in the loops. */
#include "kernel/simd/half.h"
#include "kernel/simd/rows.h"
#include "kernel/simd/vec_slope.h"

/* n elements of x, dy and y from element `at` on; grad: y = dy act'(x), else y = act(x) */
ALWAYS void span_of(bool half, bool grad, int kind, const void *x, const void *dy, void *y, int64_t at, int64_t n)
{
    for (int64_t i = at; i < at + n; i += VF) {
        int64_t left = at + n - i;
        vf v = load_row(half, x, i, left);
        store_row(half, y, i, grad ? vf_mul(load_row(half, dy, i, left), vf_slope(kind, v)) : vf_act(kind, v), left);
    }
}

ALWAYS void span_kind(bool half, bool grad, int kind, const void *x, const void *dy, void *y, int64_t at, int64_t n)
{
    switch (kind) {
    case DAN_ACT_GELU: span_of(half, grad, DAN_ACT_GELU, x, dy, y, at, n); return;
    case DAN_ACT_GELU_TANH: span_of(half, grad, DAN_ACT_GELU_TANH, x, dy, y, at, n); return;
    case DAN_ACT_SILU: span_of(half, grad, DAN_ACT_SILU, x, dy, y, at, n); return;
    default: span_of(half, grad, kind, x, dy, y, at, n);
    }
}

static void span(bool half, bool grad, int kind, const void *x, const void *dy, void *y, int64_t at, int64_t n)
{
    if (half && grad) span_kind(true, true, kind, x, dy, y, at, n);
    else if (half) span_kind(true, false, kind, x, dy, y, at, n);
    else if (grad) span_kind(false, true, kind, x, dy, y, at, n);
    else span_kind(false, false, kind, x, dy, y, at, n);
}

/* One storage for all. */
static bool accepts(const struct dan_args *a)
{
    for (int i = 1; i < a->n_in; i++)
        if (a->in[i].dtype != a->in[0].dtype) return false;
    return dan_f32_or_bf16(&a->in[0]) && a->out[0].dtype == a->in[0].dtype;
}

static void run_any(const struct dan_args *a, bool grad)
{
    const struct dan_tensor *x = &a->in[0], *dy = grad ? &a->in[1] : x, *y = &a->out[0];
    struct rows r = rows_of(a, rows_contiguous(a, grad ? 2 : 1));
    int kind = (int)a->attr[0].i;
    if (r.flat) span(dan_is_bf16(x), grad, kind, x->data, dy->data, y->data, r.lo, r.hi - r.lo);
    for (int64_t i = r.lo; !r.flat && i < r.hi; i++) span(dan_is_bf16(x), grad, kind, dan_row(x, i), dan_row(dy, i), dan_row(y, i), 0, r.cols);
}

static void run_act(const struct dan_args *a) { run_any(a, false); }
static void run_grad(const struct dan_args *a) { run_any(a, true); }
