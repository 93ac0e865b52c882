/* y has the shape of `like`; x lacks one axis and is repeated along it, or (axis -1) is one
 * element, repeated everywhere.  The gradient of sum and of sum_all. */
#include "op/util.h"

/* The shape x must have. */
static struct dan_shape without(struct dan_shape s, int64_t axis)
{
    if (axis < 0 || s.n <= 1) return DAN_SHAPE(1);
    for (int64_t i = axis; i + 1 < s.n; i++) s.d[i] = s.d[i + 1];
    s.d[--s.n] = 0;
    return s;
}

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_shape *x = &dan_in(g, n, 0)->shape, *like = &dan_in(g, n, 1)->shape;
    int64_t axis = n->attr[DAN_AXIS].i;
    if (axis >= like->n || axis < -1)
        return dan_infer_fail(n, e, "axis %lld is outside of %d dimensions: use 0..%d, or -1 to repeat one element everywhere",
                              (long long)axis, like->n, like->n - 1);
    struct dan_shape want = without(*like, axis);
    if (!dan_shape_equal(x, &want)) return dan_infer_misfit(n, e, x, &want, "the input must have the second");
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    n->shape = *like;
    return DAN_OK;
}

/* x seen with the dims of y: stride 0 along the axis, everywhere for -1. */
static struct dan_operand spread(const struct dan_tensor *x, const struct dan_shape *y, int64_t axis)
{
    struct dan_operand o = {.data = x->data};
    if (axis < 0 || y->n == 1) return o;
    for (int i = 0; i < y->n; i++)
        o.stride[i] = i < axis ? x->stride[i] : i > axis ? x->stride[i - 1] : 0;
    return o;
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *y = &a->out[0];
    struct dan_operand x = spread(&a->in[0], &y->shape, a->attr[DAN_AXIS].i);
    /* the innermost stride of x is not one element when the axis is y's last: then it is 0 */
    int64_t lo, hi, cols = dan_cols(y), step = dan_operand_step(&x, &y->shape);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = (const real *)dan_operand_row(&x, &y->shape, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c++) yr[c] = xr[c * step];
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    int64_t axis = dan_at(b->g, y)->attr[DAN_AXIS].i;
    dx[0] = axis < 0 ? dan_sum_all(b, dy[0]) : dan_sum(b, dy[0], (int)axis);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_node *x = dan_in(g, n, 0);
    *flops = 0;                                /* like is not read */
    *bytes = (double)dan_dtype_bytes(x->dtype, dan_shape_count(&x->shape) + dan_shape_count(&n->shape));
}

static bool sample(struct dan_sample *s, int i)
{
    const int64_t N = s->rows;
    const struct { struct dan_shape x, like; int axis; bool dyn; } cases[] = {
        {DAN_SHAPE(17), DAN_SHAPE(N, 17), 0, false}, {DAN_SHAPE(N), DAN_SHAPE(N, 17), 1, true},
        {DAN_SHAPE(N, 7), DAN_SHAPE(N, 3, 7), 1, true}, {DAN_SHAPE(N, 3), DAN_SHAPE(N, 3, 7), 2, true},
        {DAN_SHAPE(1), DAN_SHAPE(N, 3, 7), -1, false}, {DAN_SHAPE(1), DAN_SHAPE(N), 0, false},
        {DAN_SHAPE(N, 20), DAN_SHAPE(N, 3, 7), 1, true},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    dan_ref x = s->real(s, cases[i].x, 1, cases[i].dyn), like = s->real(s, cases[i].like, 1, true);
    s->y = dan_broadcast_like(s->b, i == 6 ? dan_slice(s->b, x, 1, 5, 12) : x, like, cases[i].axis);
    return true;
}

DAN_OP(broadcast_like) = {
    .name = "broadcast_like", .doc = "repeats x along an axis of another tensor: the gradient of sum",
    .n_in = 2, .attrs = {{"axis", 'i'}},
    .props = DAN_OP_LIKE, .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
