/* [.., n, inner, ..] -> [.., n*inner, ..] at axis and axis + 1, as a view.  The two axes must be
 * contiguous in x: put a copy before it where x may be a slice. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    dan_infer_same(g, n, e);
    int axis = dan_infer_axis(n, n->attr[DAN_AXIS].i, n->shape.n - 1, e);
    if (axis < 0) return DAN_ESHAPE;
    n->shape.d[axis] *= n->shape.d[axis + 1];
    for (int i = axis + 1; i + 1 < n->shape.n; i++) n->shape.d[i] = n->shape.d[i + 1];
    n->shape.d[--n->shape.n] = 0;
    return DAN_OK;
}

/* Only the run knows strides: a graph that merges a slice is wrong, and stops here. */
static void view(const struct dan_args *a, struct dan_tensor *out)
{
    const struct dan_tensor *x = &a->in[0];
    int axis = dan_axis(a->attr[DAN_AXIS].i, x->shape.n - 1), last = axis + 1 == x->shape.n - 1;
    int64_t inner = x->shape.d[axis + 1] / (last ? x->dtype->block : 1);
    DAN_ASSERT(x->shape.d[axis] <= 1 || dan_shape_count(&x->shape) == 0 || x->stride[axis] == inner * x->stride[axis + 1]);
    for (int i = 0; i < out->shape.n; i++) out->stride[i] = x->stride[i < axis ? i : i + 1];
    out->data = x->data;
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    const struct dan_shape *x = &dan_in(b->g, n, 0)->shape;
    int axis = dan_axis(n->attr[DAN_AXIS].i, x->n - 1);
    dx[0] = dan_split_dim(b, dy[0], axis, x->d[axis + 1]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    (void)g, (void)n;
    *flops = *bytes = 0;
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape x; int axis; } cases[] = {
        {DAN_SHAPE(s->rows, 3, 7), 1}, {DAN_SHAPE(s->rows, 3, 7), 0}, {DAN_SHAPE(s->rows, 2, 3, 5), 1},
    };
    if (i > 3) return false;
    if (i == 3) {                              /* only the merged axes need to be contiguous */
        dan_ref x = dan_slice(s->b, s->real(s, DAN_SHAPE(s->rows, 5, 3, 7), 1, true), 1, 1, 4);
        s->y = dan_merge_dims(s->b, x, 2);
        return true;
    }
    s->y = dan_merge_dims(s->b, s->real(s, cases[i].x, 1, true), cases[i].axis);
    return true;
}

DAN_OP(merge_dims) = {
    .name = "merge_dims", .doc = "[.., n, inner, ..] as [.., n*inner, ..], a view",
    .n_in = 1, .props = DAN_OP_VIEW, .attrs = {{"axis", 'i'}},
    .infer = infer, .view = view, .vjp = vjp, .cost = cost, .sample = sample,
};
