/* y = f(x) for the activation function `kind`; formulas in core/actfn.h. */
#include "op/util.h"
#include "core/actfn.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    if (n->attr[0].i < 0 || n->attr[0].i >= DAN_N_ACTS)
        return dan_infer_fail(n, e, "there is no activation %lld: use an enum dan_act", (long long)n->attr[0].i);
    return dan_infer_float(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    int64_t kind = a->attr[0].i, lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c++) yr[c] = act_value(kind, xr[c]);
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    dx[0] = dan_act_grad(b, n->in[0], dy[0], (enum dan_act)n->attr[0].i);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 12, flops, bytes);
}

/* All kinds on all shapes; |x| >= 0.1 keeps relu away from its kink. */
static bool sample(struct dan_sample *s, int i)
{
    if (i >= DAN_SAMPLE_INPUTS * DAN_N_ACTS) return false;
    s->y = dan_act(s->b, dan_sample_input(s, i % DAN_SAMPLE_INPUTS, 0.1, 3), (enum dan_act)(i / DAN_SAMPLE_INPUTS));
    return true;
}

DAN_OP(act) = {
    .name = "act", .doc = "activation function: none, gelu, gelu_tanh, silu, relu, tanh, sigmoid",
    .n_in = 1, .half_in = 0x1, .half_out = 0x1, .props = DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_ROWWISE | DAN_OP_STRIDED, .attrs = {{"kind", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
