/* z = x / y, broadcast as in numpy.  dx = dz / y, dy = -dz z / y.
 * Division by zero gives what IEEE 754 says. */
#include "op/util.h"

static real apply(real x, real y) { return x / y; }
static void ref(const struct dan_args *a) { dan_binary_ref(a, apply); }

static void vjp(struct dan_builder *b, dan_ref z, const dan_ref *dz, dan_ref *dx)
{
    const dan_ref x = dan_at(b->g, z)->in[0], y = dan_at(b->g, z)->in[1];
    dan_ref q = dan_div(b, dz[0], y);
    dx[0] = dan_unbroadcast(b, q, x);
    dx[1] = dan_scale(b, dan_unbroadcast(b, dan_mul(b, q, z), y), -1);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 1, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    return dan_sample_binary(s, i, dan_div, (struct dan_binary_range){0.1, 2, 0.5, 2});
}

DAN_OP(div) = {
    .name = "div", .doc = "x / y",
    .n_in = 2, .props = DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_ROWWISE | DAN_OP_STRIDED,
    .infer = dan_infer_broadcast, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
