/* dx has the shape of `like`: dy at [start:stop] along the axis, zeros elsewhere.  See slice.c. */
#include "op/axis.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *dy = dan_in(g, n, 0), *like = dan_in(g, n, 1);
    struct dan_shape want = like->shape;
    int64_t lo, hi;
    int axis = dan_infer_axis(n, n->attr[DAN_SLICE_AXIS].i, want.n, e);
    if (axis < 0 || dan_infer_float(g, n, e)) return DAN_ESHAPE;
    dan_slice_bounds(want.d[axis], n->attr[DAN_SLICE_START].i, n->attr[DAN_SLICE_STOP].i, &lo, &hi);
    want.d[axis] = hi - lo;
    if (!dan_shape_equal(&dy->shape, &want))
        return dan_infer_misfit(n, e, &dy->shape, &like->shape, "the first is not this slice of the second");
    n->shape = like->shape;
    return DAN_OK;
}

static void pad_row(const struct dan_tensor *dy, const struct dan_tensor *dx, int64_t r, int64_t lo)
{
    real *row = dan_row(dx, r);
    memset(row, 0, (size_t)dan_cols(dx) * sizeof *row);
    if (dan_cols(dy)) memcpy(row + lo, dan_row(dy, r), (size_t)dan_cols(dy) * sizeof *row);
}

static void place_row(const struct dan_tensor *dy, const struct dan_tensor *dx, int axis, int64_t r, int64_t lo)
{
    struct dan_axis_row p = dan_axis_row_of(&dx->shape, axis, r);
    int64_t n = dy->shape.d[axis];
    size_t bytes = (size_t)dan_cols(dx) * sizeof(real);
    if (p.at >= lo && p.at < lo + n)
        memcpy(dan_row(dx, r), dan_row(dy, dan_axis_row_in(p, n, p.at - lo)), bytes);
    else
        memset(dan_row(dx, r), 0, bytes);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *dy = &a->in[0], *dx = &a->out[0];
    int axis = dan_axis(a->attr[DAN_SLICE_AXIS].i, dx->shape.n);
    int64_t lo, hi, from, to;
    dan_slice_bounds(dx->shape.d[axis], a->attr[DAN_SLICE_START].i, a->attr[DAN_SLICE_STOP].i, &lo, &hi);
    dan_share(a, dan_rows(dx), 1, &from, &to);
    if (dan_cols(dx) == 0) return;
    for (int64_t r = from; r < to; r++) {
        if (axis == dx->shape.n - 1)
            pad_row(dy, dx, r, lo);
        else
            place_row(dy, dx, axis, r, lo);
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    dx[0] = dan_slice(b, dy[0], (int)n->attr[DAN_SLICE_AXIS].i, n->attr[DAN_SLICE_START].i, n->attr[DAN_SLICE_STOP].i);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_node *dy = dan_in(g, n, 0);
    *flops = 0;                                /* like is not read */
    *bytes = (double)dan_dtype_bytes(n->dtype, dan_shape_count(&dy->shape) + dan_shape_count(&n->shape));
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape like; int axis; int64_t start, stop; } cases[] = {
        {DAN_SHAPE(s->rows, 17), 1, 3, 10}, {DAN_SHAPE(s->rows, 17), -1, -7, DAN_END}, {DAN_SHAPE(s->rows, 3, 5), 1, 1, -1},
        {DAN_SHAPE(s->rows, 7), 0, 2, DAN_END}, {DAN_SHAPE(s->rows, 7), 0, 0, 3},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    dan_ref like = s->real(s, cases[i].like, 1, true);
    dan_ref dy = dan_slice(s->b, s->real(s, cases[i].like, 1, true), cases[i].axis, cases[i].start, cases[i].stop);
    s->y = dan_slice_grad(s->b, dy, like, cases[i].axis, cases[i].start, cases[i].stop);
    return true;
}

DAN_OP(slice_grad) = {
    .name = "slice_grad", .doc = "gradient of slice: dy among zeros",
    .n_in = 2, .attrs = {{"axis", 'i'}, {"start", 'i'}, {"stop", 'i'}},
    .props = DAN_OP_LIKE, .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
