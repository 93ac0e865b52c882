/* act and act_grad on vectors; included by ISA/act.c after math_ISA.h. */
#include "core/args.h"
#include "kernel/simd/rows.h"

static vf slope_gelu(vf x)                     /* Phi(x) + x phi(x) */
{
    vf tail = vf_mul(vf_set(0.5f), vf_erfc_pos(vf_mul(vf_abs(x), vf_set(0.70710678f))));
    vf phi = vf_less(x, vf_set(0.f), tail, vf_sub(vf_set(1.f), tail));
    vf density = vf_mul(vf_set(0.39894228f), vf_exp(vf_mul(vf_set(-0.5f), vf_mul(x, x))));
    return vf_fma(x, density, phi);
}

static vf slope_gelu_tanh(vf x)                /* x s(2u): s + x s (1 - s) 2u', u' = sqrt(2/pi) (1 + 3 0.044715 x^2) */
{
    vf xx = vf_mul(x, x), u = vf_mul(x, vf_fma(xx, vf_set(0.0356774081f), vf_set(0.797884561f)));
    vf s = vf_sigmoid(vf_add(u, u)), du = vf_fma(xx, vf_set(0.2140644486f), vf_set(1.595769122f));
    return vf_fma(vf_mul(vf_mul(x, s), vf_sub(vf_set(1.f), s)), du, s);
}

static vf slope(int kind, vf x)
{
    vf s;
    switch (kind) {
    case DAN_ACT_GELU: return slope_gelu(x);
    case DAN_ACT_GELU_TANH: return slope_gelu_tanh(x);
    case DAN_ACT_SILU: s = vf_sigmoid(x); return vf_mul(s, vf_fma(x, vf_sub(vf_set(1.f), s), vf_set(1.f)));
    case DAN_ACT_RELU: return vf_less(vf_set(0.f), x, vf_set(1.f), vf_set(0.f));
    case DAN_ACT_TANH: s = vf_tanh(x); return vf_sub(vf_set(1.f), vf_mul(s, s));
    case DAN_ACT_SIGMOID: s = vf_sigmoid(x); return vf_mul(s, vf_sub(vf_set(1.f), s));
    default: return vf_set(1.f);
    }
}

static void act_span(int kind, const float *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(y + i, vf_act(kind, vf_load(x + i)));
    if (i < n) vf_store_n(y + i, vf_act(kind, vf_load_n(x + i, n - i)), n - i);
}

static void grad_span(int kind, const float *x, const float *dy, float *dx, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(dx + i, vf_mul(vf_load(dy + i), slope(kind, vf_load(x + i))));
    if (i < n) vf_store_n(dx + i, vf_mul(vf_load_n(dy + i, n - i), slope(kind, vf_load_n(x + i, n - i))), n - i);
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
