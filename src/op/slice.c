/* y = x[.., start:stop, ..] along an axis, as a view.  Bounds as in Python: negative values count
 * from the end, DAN_END is the end, all is clamped to the dimension at bind. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    dan_infer_same(g, n, e);
    int64_t start = n->attr[DAN_SLICE_START].i, stop = n->attr[DAN_SLICE_STOP].i, lo, hi;
    int axis = dan_infer_axis(n, n->attr[DAN_SLICE_AXIS].i, n->shape.n, e);
    if (axis < 0) return DAN_ESHAPE;
    /* -3:5 has 3 of 3 rows, 2 of 6 and none of 8: the memory plan could not trust the declared maximum */
    if (axis == 0 && start < 0 && stop >= 0 && stop != DAN_END)
        return dan_infer_fail(n, e, "rows %lld:%lld: give both bounds from the same end", (long long)start, (long long)stop);
    dan_slice_bounds(n->shape.d[axis], start, stop, &lo, &hi);
    if (axis == n->shape.n - 1 && (lo % n->dtype->block || hi % n->dtype->block))
        return dan_infer_fail(n, e, "columns %lld:%lld cut a block of '%s': use multiples of %d", (long long)lo, (long long)hi,
                              n->dtype->name, n->dtype->block);
    n->shape.d[axis] = hi - lo;
    return DAN_OK;
}

static void view(const struct dan_args *a, struct dan_tensor *out)
{
    const struct dan_tensor *x = &a->in[0];
    int axis = dan_axis(a->attr[DAN_SLICE_AXIS].i, x->shape.n);
    int64_t lo, hi;
    dan_slice_bounds(x->shape.d[axis], a->attr[DAN_SLICE_START].i, a->attr[DAN_SLICE_STOP].i, &lo, &hi);
    memcpy(out->stride, x->stride, sizeof x->stride);
    out->data = x->data ? (char *)x->data + lo / (axis == x->shape.n - 1 ? x->dtype->block : 1) * x->stride[axis] : NULL;
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    dx[0] = dan_slice_grad(b, dy[0], n->in[0], (int)n->attr[DAN_SLICE_AXIS].i, n->attr[DAN_SLICE_START].i, n->attr[DAN_SLICE_STOP].i);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    (void)g, (void)n;
    *flops = *bytes = 0;
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape x; int axis; int64_t start, stop; } cases[] = {
        {DAN_SHAPE(s->rows, 17), 1, 3, 10}, {DAN_SHAPE(s->rows, 17), -1, -7, DAN_END}, {DAN_SHAPE(s->rows, 3, 5), 1, 1, -1},
        {DAN_SHAPE(s->rows, 7), 0, 2, DAN_END}, {DAN_SHAPE(s->rows, 7), 0, -1, DAN_END}, {DAN_SHAPE(s->rows, 7), 0, 0, 3},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    s->y = dan_slice(s->b, s->real(s, cases[i].x, 1, true), cases[i].axis, cases[i].start, cases[i].stop);
    return true;
}

DAN_OP(slice) = {
    .name = "slice", .doc = "x[start:stop] along an axis, as a view",
    .n_in = 1, .props = DAN_OP_VIEW, .attrs = {{"axis", 'i'}, {"start", 'i'}, {"stop", 'i'}},
    .infer = infer, .view = view, .vjp = vjp, .cost = cost, .sample = sample,
};
