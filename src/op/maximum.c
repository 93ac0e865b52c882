/* z = max(x, y), broadcast as in numpy.  Where x > y the gradient goes to x, else (ties too) to y.
 * The step function this needs is there already, as the slope of relu: dx = dz relu'(x - y). */
#include "op/util.h"

static real apply(real x, real y) { return x > y ? x : y; }
static void ref(const struct dan_args *a) { dan_binary_ref(a, apply); }

static void vjp(struct dan_builder *b, dan_ref z, const dan_ref *dz, dan_ref *dx)
{
    const dan_ref x = dan_at(b->g, z)->in[0], y = dan_at(b->g, z)->in[1];
    dan_ref to_x = dan_act_grad(b, dan_sub(b, x, y), dz[0], DAN_ACT_RELU);
    dx[0] = dan_unbroadcast(b, to_x, x);
    dx[1] = dan_unbroadcast(b, dan_sub(b, dz[0], to_x), y);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 1, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    return dan_sample_binary(s, i, dan_maximum, (struct dan_binary_range){2, 3, 0.5, 1});
}

DAN_OP(maximum) = {
    .name = "maximum", .doc = "the larger of x and y",
    .n_in = 2, .props = DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_STRIDED,
    .infer = dan_infer_broadcast, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
