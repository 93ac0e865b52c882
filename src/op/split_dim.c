/* [.., n*inner, ..] -> [.., n, inner, ..] at an axis, as a view. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    dan_infer_same(g, n, e);
    int64_t inner = n->attr[DAN_SPLIT_INNER].i;
    int axis = dan_infer_axis(n, n->attr[DAN_SPLIT_AXIS].i, n->shape.n, e);
    if (axis < 0) return DAN_ESHAPE;
    if (n->shape.n == DAN_MAX_DIMS)
        return dan_infer_fail(n, e, "the input has %d dimensions already: merge some first", DAN_MAX_DIMS);
    if (n->dtype->block != 1)
        return dan_infer_fail(n, e, "input is '%s': only plain dtypes can be split, convert it first", n->dtype->name);
    if (inner < 1 || n->shape.d[axis] % inner)
        return dan_infer_fail(n, e, "%lld does not divide the dimension: choose a divisor of %lld", (long long)inner,
                              (long long)n->shape.d[axis]);
    for (int i = n->shape.n++; i > axis; i--) n->shape.d[i] = n->shape.d[i - 1];
    n->shape.d[axis] /= inner;
    n->shape.d[axis + 1] = inner;
    return DAN_OK;
}

static void view(const struct dan_args *a, struct dan_tensor *out)
{
    const struct dan_tensor *x = &a->in[0];
    int axis = dan_axis(a->attr[DAN_SPLIT_AXIS].i, x->shape.n);
    for (int i = 0; i < out->shape.n; i++) out->stride[i] = x->stride[i <= axis ? i : i - 1];
    out->stride[axis] = x->stride[axis] * out->shape.d[axis + 1];
    out->data = x->data;
}

/* Whether x is contiguous whatever feeds it: views of columns or rows are not. */
static bool surely_contiguous(const struct dan_graph *g, dan_ref x)
{
    const struct dan_node *n = dan_at(g, x);
    while (n->op == &dan_op_split_dim || n->op == &dan_op_merge_dims || n->op == &dan_op_pick) n = dan_in(g, n, 0);
    return !(n->op->props & (DAN_OP_VIEW | DAN_OP_LEAF));
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    int axis = dan_axis(n->attr[DAN_SPLIT_AXIS].i, n->shape.n - 1);
    dan_ref d = surely_contiguous(b->g, dy[0]) ? dy[0] : dan_copy(b, dy[0]);
    dx[0] = dan_merge_dims(b, d, axis);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    (void)g, (void)n;
    *flops = *bytes = 0;
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape x; int axis; int64_t inner; } cases[] = {
        {DAN_SHAPE(s->rows, 21), 1, 7}, {DAN_SHAPE(s->rows, 6, 5), 1, 2}, {DAN_SHAPE(s->rows * 3, 7), 0, 3},
        {DAN_SHAPE(s->rows, 3, 17), -1, 17},
    };
    if (i > 4) return false;
    if (i == 4) {                              /* a view of a view; its gradient is strided too */
        dan_ref x = dan_slice(s->b, s->real(s, DAN_SHAPE(s->rows, 40), 1, true), 1, 3, 36);
        s->y = dan_slice(s->b, dan_split_dim(s->b, x, 1, 11), 2, 2, 9);
        return true;
    }
    s->y = dan_split_dim(s->b, s->real(s, cases[i].x, 1, true), cases[i].axis, cases[i].inner);
    return true;
}

DAN_OP(split_dim) = {
    .name = "split_dim", .doc = "[.., n*inner, ..] as [.., n, inner, ..], a view",
    .n_in = 1, .props = DAN_OP_VIEW, .attrs = {{"axis", 'i'}, {"inner", 'i'}},
    .infer = infer, .view = view, .vjp = vjp, .cost = cost, .sample = sample,
};
