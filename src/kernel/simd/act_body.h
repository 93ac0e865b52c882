/* act and act_grad on vectors; included by ISA/act.c after math_ISA.h. */
#include "core/args.h"
#include "kernel/simd/rows.h"
#include "kernel/simd/vec_slope.h"

static void act_span(int kind, const float *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(y + i, vf_act(kind, vf_load(x + i)));
    if (i < n) vf_store_n(y + i, vf_act(kind, vf_load_n(x + i, n - i)), n - i);
}

static void grad_span(int kind, const float *x, const float *dy, float *dx, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(dx + i, vf_mul(vf_load(dy + i), vf_slope(kind, vf_load(x + i))));
    if (i < n) vf_store_n(dx + i, vf_mul(vf_load_n(dy + i, n - i), vf_slope(kind, vf_load_n(x + i, n - i))), n - i);
}

static bool accepts(const struct dan_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (!rows_f32(&a->in[i])) return false;
    return true;
}

static void run_act(const struct dan_args *a)
{
    struct rows r = rows_of(a, rows_contiguous(a, 1));
    int kind = (int)a->attr[0].i;
    if (r.flat) act_span(kind, (const float *)a->in[0].data + r.lo, (float *)a->out[0].data + r.lo, r.hi - r.lo);
    for (int64_t i = r.lo; !r.flat && i < r.hi; i++) act_span(kind, dan_row(&a->in[0], i), dan_row(&a->out[0], i), r.cols);
}

static void run_grad(const struct dan_args *a)
{
    struct rows r = rows_of(a, rows_contiguous(a, 2));
    int kind = (int)a->attr[0].i;
    if (r.flat) grad_span(kind, (const float *)a->in[0].data + r.lo, (const float *)a->in[1].data + r.lo, (float *)a->out[0].data + r.lo, r.hi - r.lo);
    for (int64_t i = r.lo; !r.flat && i < r.hi; i++) grad_span(kind, dan_row(&a->in[0], i), dan_row(&a->in[1], i), dan_row(&a->out[0], i), r.cols);
}
