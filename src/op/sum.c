/* y = sum of x over one axis, which is dropped: [N,T,C] over axis 1 gives [N,C].  The sum over the
 * only axis of a vector is [1]. */
#include "op/reduce.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    int axis = dan_infer_axis(n, n->attr[DAN_AXIS].i, n->shape.n, e);
    if (axis < 0) return DAN_ESHAPE;
    if (n->shape.n == 1) {
        n->shape.d[0] = 1;
        return DAN_OK;
    }
    for (int i = axis; i + 1 < n->shape.n; i++) n->shape.d[i] = n->shape.d[i + 1];
    n->shape.d[--n->shape.n] = 0;
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    struct dan_shape kept = a->in[0].shape;
    kept.d[dan_axis(a->attr[DAN_AXIS].i, kept.n)] = 1;
    dan_reduce_ref(a, &a->in[0], kept, a->out[0].data);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    dx[0] = dan_broadcast_like(b, dy[0], n->in[0], dan_axis(n->attr[DAN_AXIS].i, dan_in(b->g, n, 0)->shape.n));
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = (double)dan_shape_count(&dan_in(g, n, 0)->shape);
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape x; int axis; } cases[] = {
        {DAN_SHAPE(s->rows, 17), 0}, {DAN_SHAPE(s->rows, 17), 1}, {DAN_SHAPE(s->rows, 3, 7), 1}, {DAN_SHAPE(s->rows, 3, 133), 0},
        {DAN_SHAPE(s->rows, 3, 1), -1}, {DAN_SHAPE(s->rows), 0}, {DAN_SHAPE(s->rows, 40), 0}, {DAN_SHAPE(s->rows, 40), 1},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    dan_ref x = s->real(s, cases[i].x, 1, true);
    s->y = dan_sum(s->b, i >= 6 ? dan_slice(s->b, x, 1, 3, 36) : x, cases[i].axis);
    return true;
}

DAN_OP(sum) = {
    .name = "sum", .doc = "sum over one axis, which is dropped",
    .n_in = 1, .half_in = 0x1, .attrs = {{"axis", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
