/* Symmetric quantise-dequantise of groups along the last axis (group 0 = the whole row):
 *   s = max|x| / qmax,  y = s clamp(round(x / s), -qmax, qmax),  qmax = 2^(bits-1) - 1
 * round is half-to-even; a group of zeros stays zeros.  The gradient is straight-through
 * (Bengio et al. 2013): dx = dy.  That is a choice, not the derivative (which is 0 almost
 * everywhere), so a finite difference cannot confirm it: the samples say no_grad. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int64_t bits = n->attr[DAN_QUANT_BITS].i, group = n->attr[DAN_QUANT_GROUP].i;
    const struct dan_shape *s = &dan_in(g, n, 0)->shape;
    int64_t cols = s->n ? s->d[s->n - 1] : 1;
    if (bits < 2 || bits > 16) return dan_infer_fail(n, e, "%lld bits: use 2 to 16", (long long)bits);
    if (group < 0 || (group && cols % group))
        return dan_infer_fail(n, e, "group %lld does not divide the last dimension %lld: choose a divisor, or 0 for whole rows",
                              (long long)group, (long long)cols);
    return dan_infer_float(g, n, e);
}

static void quant_group(const real *x, real *y, int64_t n, real qmax)
{
    real top = 0;
    for (int64_t i = 0; i < n; i++) top = (real)fmax(top, fabs((double)x[i]));
    real s = top / qmax;
    for (int64_t i = 0; i < n; i++) {
        real q = s > 0 ? (real)rint((double)(x[i] / s)) : 0;
        y[i] = s * (q > qmax ? qmax : q < -qmax ? -qmax : q);
    }
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const real qmax = (real)((1 << (a->attr[DAN_QUANT_BITS].i - 1)) - 1);
    int64_t lo, hi, cols = dan_cols(y), group = a->attr[DAN_QUANT_GROUP].i ? a->attr[DAN_QUANT_GROUP].i : cols;
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        for (int64_t c = 0; c < cols; c += group)
            quant_group((const real *)dan_row(x, r) + c, (real *)dan_row(y, r) + c, group, qmax);
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
    const struct { int64_t cols, lo, hi, group; int bits; } cases[] = {
        {17, 0, 17, 0, 8}, {64, 0, 64, 32, 4}, {33, 0, 33, 11, 2}, {40, 3, 36, 0, 8},
    };
    if (i > 3) return false;
    s->no_grad = true;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, cases[i].cols), 1, true);
    if (i == 3) x = dan_slice(s->b, x, 1, cases[i].lo, cases[i].hi);
    s->y = dan_fake_quant(s->b, x, cases[i].bits, cases[i].group);
    return true;
}

DAN_OP(fake_quant) = {
    .name = "fake_quant", .doc = "rounds to `bits` bits per group and back; straight-through gradient",
    .n_in = 1, .props = DAN_OP_INPLACE, .attrs = {{"bits", 'i'}, {"group", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
