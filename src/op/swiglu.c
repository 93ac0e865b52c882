/* y = silu(g) u for x [.., 2F] = (g, u), each F wide: the gated unit of Shazeer 2020, "GLU
 * Variants Improve Transformer".  silu(g) = g sigma(g). */
#include "op/util.h"
#include "core/actfn.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int last = dan_in(g, n, 0)->shape.n - 1;
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    if (last < 0 || n->shape.d[last] % 2)
        return dan_infer_fail(n, e, "the last dimension must be even: gate and up side by side");
    n->shape.d[last] /= 2;
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    int64_t lo, hi, F = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *gate = dan_row(x, r), *up = gate + F;
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < F; c++) yr[c] = act_value(DAN_ACT_SILU, gate[c]) * up[c];
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    dx[0] = dan_swiglu_grad(b, dan_at(b->g, y)->in[0], dy[0]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 12, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const struct dan_shape shapes[] = {DAN_SHAPE(s->rows, 34), DAN_SHAPE(s->rows, 3, 14), DAN_SHAPE(s->rows, 2), DAN_SHAPE(s->rows, 80)};
    if (i > 3) return false;
    dan_ref x = s->real(s, shapes[i], 1.5, true);
    s->y = dan_swiglu(s->b, i == 3 ? dan_slice(s->b, x, 1, 5, 71) : x);
    return true;
}

DAN_OP(swiglu) = {
    .name = "swiglu", .doc = "silu(first half) * last half of the last axis",
    .n_in = 1, .half_in = 0x1, .half_out = 0x1, .props = DAN_OP_ROWWISE | DAN_OP_STRIDED,
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
