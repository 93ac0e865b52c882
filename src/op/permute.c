/* y[i_0, i_1, ..] = x with its dimensions in another order: dimension k of y is dimension order[k] of
 * x, as numpy's transpose.  Materialises.  f32, f64 or i32. */
#include "op/util.h"

#ifndef DAN_REAL64
dan_ref dan_permute(struct dan_builder *b, dan_ref x, const int *order)
{
    union dan_attr attr[DAN_MAX_ATTR] = {{0}};
    int n = x > 0 ? dan_shape_at(b, x)->n : 0;
    for (int i = 0; i < n; i++) attr[i].i = order[i];
    return dan_emit(b, &dan_op_permute, &x, 1, attr, n);
}
#endif

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_shape *x = &dan_in(g, n, 0)->shape;
    unsigned seen = 0;
    dan_infer_same(g, n, e);
    if (!dan_is_float(n->dtype) && n->dtype != &dan_dtype_i32)
        return dan_infer_fail(n, e, "input is '%s': only f32, f64 and i32 can be permuted", n->dtype->name);
    for (int i = 0; i < x->n; i++) {
        int64_t from = n->attr[i].i;
        if (from < 0 || from >= x->n || seen & 1u << from)
            return dan_infer_fail(n, e, "order is not a permutation of 0..%d: name every dimension once", x->n - 1);
        seen |= 1u << from;
        n->shape.d[i] = x->d[from];
    }
    return DAN_OK;
}

static void gather_row(char *y, const char *x, int64_t n, int64_t stride, size_t bytes)
{
    if (bytes == sizeof(int32_t))
        for (int64_t i = 0; i < n; i++) memcpy(y + 4 * i, x + i * stride, 4);
    else
        for (int64_t i = 0; i < n; i++) memcpy(y + 8 * i, x + i * stride, 8);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    struct dan_operand from = {.data = x->data};           /* x with the dims of y */
    int64_t lo, hi, cols = dan_cols(y), last = y->shape.n - 1;
    for (int i = 0; i < y->shape.n; i++) from.stride[i] = x->stride[a->attr[i].i];
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        gather_row(dan_row(y, r), dan_operand_row(&from, &y->shape, r), cols, last < 0 ? 0 : from.stride[last], y->dtype->bytes);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    int back[DAN_MAX_DIMS] = {0};
    for (int i = 0; i < n->shape.n; i++) back[n->attr[i].i] = i;
    dx[0] = dan_permute(b, dy[0], back);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 0, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { struct dan_shape x; int order[4]; } cases[] = {
        {DAN_SHAPE(s->rows, 17), {1, 0}}, {DAN_SHAPE(s->rows, 3, 7), {1, 0, 2}}, {DAN_SHAPE(s->rows, 2, 3, 5), {3, 1, 0, 2}},
        {DAN_SHAPE(s->rows, 33), {0, 1}}, {DAN_SHAPE(s->rows, 40), {1, 0}},
    };
    if (i > 5) return false;
    if (i == 5) {
        s->no_grad = true;
        s->y = dan_permute(s->b, s->ints(s, DAN_SHAPE(s->rows, 7), 1000, true), (const int[]){1, 0});
        return true;
    }
    dan_ref x = s->real(s, cases[i].x, 1, true);
    s->y = dan_permute(s->b, i == 4 ? dan_slice(s->b, x, 1, 3, 36) : x, cases[i].order);
    return true;
}

DAN_OP(permute) = {
    .name = "permute", .doc = "dimensions in another order, materialised",
    .n_in = 1, .attrs = {{"d0", 'i'}, {"d1", 'i'}, {"d2", 'i'}, {"d3", 'i'}, {"d4", 'i'}, {"d5", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
