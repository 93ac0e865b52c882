/* y = ln x, the natural logarithm.  dx = dy / x. */
#include "op/util.h"

static real apply(real x) { return (real)log((double)x); }
static void ref(const struct dan_args *a) { dan_unary_ref(a, apply); }

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    dx[0] = dan_div(b, dy[0], dan_at(b->g, y)->in[0]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 8, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    dan_ref x = dan_sample_input(s, i, 0.7, 2);
    if (!x) return false;
    s->y = dan_log(s->b, dan_mul(s->b, x, x));
    return true;
}

DAN_OP(log) = {
    .name = "log", .doc = "natural logarithm",
    .n_in = 1, .props = DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_STRIDED,
    .infer = dan_infer_float, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
