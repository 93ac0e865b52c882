/* dx [.., 2F] = (dy u silu'(g), dy silu(g)) for x [.., 2F] = (g, u), dy [.., F]; see swiglu.c. */
#include "op/util.h"
#include "core/actfn.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *dy = dan_in(g, n, 1);
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    struct dan_shape half = n->shape;
    int last = half.n - 1;
    if (last < 0 || half.d[last] % 2)
        return dan_infer_fail(n, e, "the last dimension must be even: gate and up side by side");
    half.d[last] /= 2;
    if (dy->dtype != n->dtype || !dan_shape_equal(&dy->shape, &half))
        return dan_infer_fail(n, e, "dy does not have the shape and dtype of swiglu's output: half the last dimension of x");
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *dy = &a->in[1], *dx = &a->out[0];
    int64_t lo, hi, F = dan_cols(dy);
    dan_share(a, dan_rows(dx), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *gate = dan_row(x, r), *up = gate + F, *dyr = dan_row(dy, r);
        real *dgate = dan_row(dx, r), *dup = dgate + F;
        for (int64_t c = 0; c < F; c++) {
            real silu = act_value(DAN_ACT_SILU, gate[c]), slope = act_slope(DAN_ACT_SILU, gate[c]);
            dgate[c] = dyr[c] * up[c] * slope;
            dup[c] = dyr[c] * silu;
        }
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 10, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const int64_t N = s->rows;
    const struct dan_shape shapes[] = {DAN_SHAPE(N, 34), DAN_SHAPE(N, 3, 14), DAN_SHAPE(N, 2), DAN_SHAPE(N, 80)};
    const struct dan_shape halves[] = {DAN_SHAPE(N, 17), DAN_SHAPE(N, 3, 7), DAN_SHAPE(N, 1), DAN_SHAPE(N, 40)};
    if (i > 3) return false;
    s->no_grad = true;
    dan_ref x = s->real(s, shapes[i], 1.5, true), dy = s->real(s, halves[i], 1, true);
    if (i == 3) x = dan_slice(s->b, x, 1, 5, 71), dy = dan_slice(s->b, dy, 1, 4, 37);
    s->y = dan_swiglu_grad(s->b, x, dy);
    return true;
}

DAN_OP(swiglu_grad) = {
    .name = "swiglu_grad", .doc = "gradient of swiglu",
    .n_in = 2, .half_in = 0x3, .half_out = 0x1, .props = DAN_OP_NO_GRAD | DAN_OP_ROWWISE | DAN_OP_STRIDED,
    .infer = infer, .ref = ref, .cost = cost, .sample = sample,
};
