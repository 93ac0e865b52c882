/* dx = dy f'(x) for the activation function `kind`; formulas in core/actfn.h. */
#include "op/util.h"
#include "core/actfn.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    if (n->attr[0].i < 0 || n->attr[0].i >= DAN_N_ACTS)
        return dan_infer_fail(n, e, "there is no activation %lld: use an enum dan_act", (long long)n->attr[0].i);
    return dan_infer_twin(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *dy = &a->in[1], *dx = &a->out[0];
    int64_t kind = a->attr[0].i, lo, hi, cols = dan_cols(dx);
    dan_share(a, dan_rows(dx), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r), *dyr = dan_row(dy, r);
        real *dxr = dan_row(dx, r);
        for (int64_t c = 0; c < cols; c++) dxr[c] = dyr[c] * act_slope(kind, xr[c]);
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 16, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    if (i >= DAN_SAMPLE_INPUTS * DAN_N_ACTS) return false;
    s->no_grad = true;
    dan_ref x = dan_sample_input(s, i % DAN_SAMPLE_INPUTS, 0.1, 3), dy = dan_sample_input(s, i % DAN_SAMPLE_INPUTS, 0, 2);
    s->y = dan_act_grad(s->b, x, dy, (enum dan_act)(i / DAN_SAMPLE_INPUTS));
    return true;
}

DAN_OP(act_grad) = {
    .name = "act_grad", .doc = "gradient of act: dy * f'(x)",
    .n_in = 2, .half_in = 0x3, .half_out = 0x1, .props = DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_NO_GRAD | DAN_OP_ROWWISE | DAN_OP_STRIDED, .attrs = {{"kind", 'i'}},
    .infer = infer, .ref = ref, .cost = cost, .sample = sample,
};
