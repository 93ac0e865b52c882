/* parts = x cut along an axis into n pieces of given sizes, as views.  The sizes are attributes, so
 * the axis must not be a dynamic one.  attrs: axis, n, sizes. */
#include "op/node.h"

enum { ATTR_AXIS, ATTR_N, ATTR_SIZES, MAX_PARTS = DAN_MAX_ATTR - ATTR_SIZES };

#ifndef DAN_REAL64
dan_ref dan_split(struct dan_builder *b, dan_ref x, int axis, const int64_t *sizes, int n)
{
    union dan_attr attr[DAN_MAX_ATTR] = {DAN_I(axis), DAN_I(n)};
    if (n < 1 || n > MAX_PARTS) return dan_poison(b, DAN_EINVAL, "split into %d parts: use 1 to %d", n, MAX_PARTS);
    for (int i = 0; i < n; i++) attr[ATTR_SIZES + i].i = sizes[i];
    return dan_emit(b, &dan_op_split, &x, 1, attr, ATTR_SIZES + n);
}
#endif

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0);
    int axis = dan_infer_axis(n, n->attr[ATTR_AXIS].i, x->shape.n, e), parts = (int)n->attr[ATTR_N].i;
    int64_t at = 0;
    if (axis < 0) return DAN_ESHAPE;
    if (parts < 1 || parts > MAX_PARTS) return dan_infer_fail(n, e, "split into %d parts: use 1 to %d", parts, MAX_PARTS);
    int rc = dan_node_parts(g, n, parts, e);
    if (rc) return rc;
    for (int i = 0; i < parts; i++) {
        struct dan_shape s = x->shape;
        s.d[axis] = n->attr[ATTR_SIZES + i].i;
        if (s.d[axis] < 0 || (axis == s.n - 1 && s.d[axis] % x->dtype->block))
            return dan_infer_fail(n, e, "size %lld of part %d: use whole blocks of '%s'", (long long)s.d[axis], i, x->dtype->name);
        dan_node_part(n, i, x->dtype, s);
        at += s.d[axis];
    }
    if (at == x->shape.d[axis]) return DAN_OK;
    return dan_infer_fail(n, e, "sizes sum to %lld, the axis has %lld: they must be equal, and the axis not a dynamic one", (long long)at,
                          (long long)x->shape.d[axis]);
}

static void view(const struct dan_args *a, struct dan_tensor *out)
{
    const struct dan_tensor *x = &a->in[0];
    int axis = dan_axis(a->attr[ATTR_AXIS].i, x->shape.n), block = axis == x->shape.n - 1 ? x->dtype->block : 1;
    char *p = x->data;
    for (int i = 0; i < a->n_out; i++) {
        memcpy(out[i].stride, x->stride, sizeof x->stride);
        out[i].data = p;
        if (p) p += out[i].shape.d[axis] / block * x->stride[axis];
    }
}

/* Parts that no gradient reaches count as zeros. */
static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const int axis = (int)dan_at(b->g, y)->attr[ATTR_AXIS].i, n = dan_at(b->g, y)->n_out;
    dan_ref d[MAX_PARTS];
    for (int i = 0; i < n; i++) d[i] = dy[i] ? dy[i] : dan_fill_like(b, dan_pick(b, y, i), 0);
    dx[0] = dan_concat(b, d, n, axis);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    (void)g, (void)n;
    *flops = *bytes = 0;
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape x; int axis, n; int64_t size[MAX_PARTS]; } cases[] = {
        {DAN_SHAPE(s->rows, 17), 1, 3, {7, 1, 9}}, {DAN_SHAPE(s->rows, 3, 5), 1, 2, {1, 2}},
        {DAN_SHAPE(s->rows, 12), -1, 6, {1, 2, 3, 1, 2, 3}},
        {DAN_SHAPE(s->rows, 33), 1, 1, {33}},
    };
    if (i > 4) return false;
    if (i == 4) {                              /* a view of a view */
        dan_ref x = dan_slice(s->b, s->real(s, DAN_SHAPE(s->rows, 40), 1, true), 1, 3, 36);
        s->y = dan_split(s->b, x, 1, (const int64_t[]){16, 17}, 2);
        return true;
    }
    s->y = dan_split(s->b, s->real(s, cases[i].x, 1, true), cases[i].axis, cases[i].size, cases[i].n);
    return true;
}

DAN_OP(split) = {
    .name = "split", .doc = "cuts x along an axis into parts, as views",
    .n_in = 1, .props = DAN_OP_VIEW,
    .attrs = {{"axis", 'i'}, {"n", 'i'}, {"s0", 'i'}, {"s1", 'i'}, {"s2", 'i'}, {"s3", 'i'}, {"s4", 'i'}, {"s5", 'i'}},
    .infer = infer, .view = view, .vjp = vjp, .cost = cost, .sample = sample,
};
