/* y[1] = sum of all elements of x.  One thread adds, so the order is fixed. */
#include "op/reduce.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    n->shape = DAN_SHAPE(1);
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    struct dan_shape kept = a->in[0].shape;
    if (kept.n == 0) {
        if (a->ith == 0) memcpy(a->out[0].data, a->in[0].data, sizeof(real));
        return;
    }
    for (int i = 0; i < kept.n; i++) kept.d[i] = 1;
    dan_reduce_ref(a, &a->in[0], kept, a->out[0].data);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    dx[0] = dan_broadcast_like(b, dy[0], dan_at(b->g, y)->in[0], -1);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = (double)dan_shape_count(&dan_in(g, n, 0)->shape);
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    dan_ref x = dan_sample_input(s, i, 0.1, 2);
    if (!x) return false;
    s->y = dan_sum_all(s->b, x);
    return true;
}

DAN_OP(sum_all) = {
    .name = "sum_all", .doc = "sum of all elements, as [1]",
    .n_in = 1,
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
