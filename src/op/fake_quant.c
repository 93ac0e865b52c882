/* Symmetric quantise-dequantise of groups along the last axis (group 0 = the whole row), the scale from the group itself:
 *   s = max|x| / top,  y = s clip(round(x top / max|x|), -top, top),  top = 2^(bits-1) - 1
 * the very operations by which the integer products quantise activations.  form (core/fake_quant.h):
 * DAN_QUANT_FULL: s = m / -(top+1), m the x with the largest |x|, so that m is the level that has no negative (llama.cpp's
 * q4_0); DAN_QUANT_F16: s is rounded to f16 first, then y = s clip(round(x / s)).
 * round is half-to-even; a group of zeros stays zeros.  The gradient is straight-through
 * (Bengio et al. 2013): dx = dy.  That is a choice, not the derivative (which is 0 almost
 * everywhere), so a finite difference cannot confirm it: the samples say no_grad. */
#include "op/fake_quant.h"
#include "op/staircase.h"
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int64_t bits = n->attr[DAN_QUANT_BITS].i, group = n->attr[DAN_QUANT_GROUP].i, form = n->attr[DAN_QUANT_FORM].i;
    const struct dan_shape *s = &dan_in(g, n, 0)->shape;
    int64_t cols = s->n ? s->d[s->n - 1] : 1;
    if (bits < 2 || bits > 16) return dan_infer_fail(n, e, "%lld bits: use 2 to 16", (long long)bits);
    if (form < 0 || form > (DAN_QUANT_FULL | DAN_QUANT_F16))
        return dan_infer_fail(n, e, "form %lld does not exist: use bits of enum dan_quant_form", (long long)form);
    if (group < 0 || (group && cols % group))
        return dan_infer_fail(n, e, "group %lld does not divide the last dimension %lld: choose a divisor, or 0 for whole rows",
                              (long long)group, (long long)cols);
    return dan_infer_float(g, n, e);
}

/* The x of largest |x|; the first of several. */
static real largest(const real *x, int64_t n)
{
    real top = 0, at = 0;
    for (int64_t i = 0; i < n; i++) {
        real m = x[i] < 0 ? -x[i] : x[i];
        if (m > top) at = x[i];
        if (m > top) top = m;
    }
    return at;
}

/* Below 1e-35 the inverse would not be finite in f32: such a group is zeros, as in the integer products. */
static void quant_group(const real *x, real *y, int64_t n, int64_t bits, int64_t form)
{
    const real hi = (real)dan_quant_hi(bits), lo = (real)dan_quant_lo(bits, form), m = largest(x, n);
    const real top = m < 0 ? -m : m, s = form & DAN_QUANT_FULL ? m / lo : top / hi;
    const real by = form & DAN_QUANT_FULL ? lo / (top > 0 ? m : 1) : hi / (top > 0 ? top : 1);
    const real half = (real)dan_f16_to_f32(dan_f32_to_f16((float)s));
    for (int64_t i = 0; i < n; i++) {
        if (!(top > (real)1e-35f)) y[i] = 0;
        else if (form & DAN_QUANT_F16) y[i] = half != 0 ? half * clip_to(round_even(x[i] / half), lo, hi) : 0;
        else y[i] = s * clip_to(round_even(x[i] * by), lo, hi);
    }
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const int64_t bits = a->attr[DAN_QUANT_BITS].i, form = a->attr[DAN_QUANT_FORM].i;
    int64_t lo, hi, cols = dan_cols(y), group = a->attr[DAN_QUANT_GROUP].i ? a->attr[DAN_QUANT_GROUP].i : cols;
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        for (int64_t c = 0; c < cols; c += group)
            quant_group((const real *)dan_row(x, r) + c, (real *)dan_row(y, r) + c, group, bits, form);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    (void)b, (void)y;
    dx[0] = dy[0];
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 5, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { int64_t cols, lo, hi; struct dan_quant_grid q; } cases[] = {
        {17, 0, 17, {8, 0, 0}}, {64, 0, 64, {4, 32, 0}}, {33, 0, 33, {2, 11, 0}}, {40, 3, 36, {8, 0, 0}}, {64, 0, 64, {8, 32, 0}},
        {64, 0, 64, {3, 32, DAN_QUANT_FULL | DAN_QUANT_F16}}, {48, 0, 48, {4, 16, DAN_QUANT_FULL}}, {32, 0, 32, {4, 0, DAN_QUANT_F16}},
    };
    if (i > 7) return false;
    s->no_grad = true;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, cases[i].cols), 1, true);
    if (i == 3) x = dan_slice(s->b, x, 1, cases[i].lo, cases[i].hi);
    s->y = dan_fake_quant_dynamic(s->b, x, cases[i].q);
    return true;
}

DAN_OP(fake_quant) = {
    .name = "fake_quant", .doc = "rounds to `bits` bits per group and back; straight-through gradient",
    .n_in = 1, .props = DAN_OP_INPLACE, .attrs = {{"bits", 'i'}, {"group", 'i'}, {"form", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
