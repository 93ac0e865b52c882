/* y = inputs one after the other along an axis; all other dims are equal.  Any plain dtype. */
#include "op/axis.h"

#ifndef DAN_REAL64
dan_ref dan_concat(struct dan_builder *b, const dan_ref *x, int n, int axis)
{
    return dan_emit(b, &dan_op_concat, x, n, &DAN_I(axis), 1);
}
#endif

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    if (n->n_in < 1) return dan_infer_fail(n, e, "nothing to join: give at least one input");
    dan_infer_same(g, n, e);
    int axis = dan_infer_axis(n, n->attr[DAN_AXIS].i, n->shape.n, e);
    if (axis < 0) return DAN_ESHAPE;
    if (n->dtype->block != 1)
        return dan_infer_fail(n, e, "input is '%s': only plain dtypes can be joined, convert it first", n->dtype->name);
    for (int i = 1; i < n->n_in; i++) {
        const struct dan_node *x = dan_in(g, n, i);
        struct dan_shape want = n->shape;
        if (axis < x->shape.n) want.d[axis] = x->shape.d[axis];
        if (x->dtype != n->dtype || !dan_shape_equal(&x->shape, &want))
            return dan_infer_misfit(n, e, &n->shape, &x->shape, "they cannot be joined; dtypes and all dims but the axis must be equal");
        n->shape.d[axis] += x->shape.d[axis];
    }
    return DAN_OK;
}

static void join_columns(const struct dan_args *a, int64_t r)
{
    char *y = dan_row(&a->out[0], r);
    for (int i = 0; i < a->n_in; i++) {
        size_t bytes = dan_dtype_bytes(a->in[i].dtype, dan_cols(&a->in[i]));
        const char *x = dan_row(&a->in[i], r);
        if (bytes && x != y) memcpy(y, x, bytes);      /* equal: it was computed in place */
        y += bytes;
    }
}

static void pick_row(const struct dan_args *a, int axis, int64_t r)
{
    const struct dan_tensor *y = &a->out[0], *x = a->in;
    struct dan_axis_row p = dan_axis_row_of(&y->shape, axis, r);
    while (p.at >= x->shape.d[axis]) p.at -= x++->shape.d[axis];
    const char *from = dan_row(x, dan_axis_row_in(p, x->shape.d[axis], p.at));
    char *to = dan_row(y, r);
    if (from != to) memcpy(to, from, dan_dtype_bytes(y->dtype, dan_cols(y)));
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *y = &a->out[0];
    int axis = dan_axis(a->attr[DAN_AXIS].i, y->shape.n);
    int64_t lo, hi;
    if (dan_cols(y) == 0) return;
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        if (axis == y->shape.n - 1)
            join_columns(a, r);
        else
            pick_row(a, axis, r);
    }
}

/* Whether a dynamic input is among the ancestors: then dim 0 may shrink at bind, and the slices
 * below, whose bounds are attributes, would be wrong. */
static bool may_shrink(const struct dan_graph *g, dan_ref r)
{
    bool *dynamic = dan_arena_alloc(g->arena, (size_t)r + 1);
    if (!dynamic) return true;
    for (dan_ref i = 1; i <= r; i++) {
        const struct dan_node *n = dan_at(g, i);
        dynamic[i] = n->op == &dan_op_input && n->attr[DAN_INPUT_DYNAMIC].i;
        for (int k = 0; k < n->n_in; k++) dynamic[i] |= n->in[k] && dynamic[n->in[k]];
    }
    return dynamic[r];
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    const int axis = dan_axis(n->attr[DAN_AXIS].i, n->shape.n), n_in = n->n_in;
    const dan_ref *in = n->in;
    if (axis == 0 && may_shrink(b->g, y)) {
        dan_poison(b, DAN_EUNSUPPORTED, "concat of dynamic rows has no gradient: join along another axis, or declare the inputs static");
        return;
    }
    for (int64_t i = 0, at = 0; i < n_in; i++) {
        int64_t dim = dan_shape_at(b, in[i])->d[axis];
        dx[i] = dan_slice(b, dy[0], axis, at, at + dim);
        at += dim;
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 0, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const int64_t N = s->rows;
    const struct { struct dan_shape x[3]; int n, axis; } cases[] = {
        {{DAN_SHAPE(N, 17), DAN_SHAPE(N, 1), DAN_SHAPE(N, 7)}, 3, 1},
        {{DAN_SHAPE(N, 3, 5), DAN_SHAPE(N, 2, 5)}, 2, 1},
        {{DAN_SHAPE(N, 3, 5), DAN_SHAPE(N, 3, 2)}, 2, -1},
        {{DAN_SHAPE(4, 3), DAN_SHAPE(1, 3), DAN_SHAPE(2, 3)}, 3, 0},
        {{DAN_SHAPE(N, 40), DAN_SHAPE(N, 9)}, 2, 1},
    };
    dan_ref x[3];
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    for (int k = 0; k < cases[i].n; k++) x[k] = s->real(s, cases[i].x[k], 1, i != 3);
    if (i == 4) x[0] = dan_slice(s->b, x[0], 1, 3, 36);
    s->y = dan_concat(s->b, x, cases[i].n, cases[i].axis);
    return true;
}

DAN_OP(concat) = {
    .name = "concat", .doc = "inputs one after the other along an axis",
    .n_in = -1, .half_in = 0xffffffff, .half_out = 0x1, .props = DAN_OP_BYTES, .attrs = {{"axis", 'i'}, {"placed", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
