/* y[i] = value, with the shape and dtype of x (f32, f64 or i32). */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_dtype *t = dan_in(g, n, 0)->dtype;
    if (!dan_is_float(t) && t != &dan_dtype_i32)
        return dan_infer_fail(n, e, "input is '%s': only f32, f64 and i32 can be filled", t->name);
    return dan_infer_same(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *y = &a->out[0];
    double v = a->attr[DAN_FILL_VALUE].f;
    int64_t lo, hi;
    dan_share(a, dan_shape_count(&y->shape), 16, &lo, &hi);
    if (y->dtype == &dan_dtype_i32)
        for (int64_t i = lo; i < hi; i++) ((int32_t *)y->data)[i] = (int32_t)v;
    else
        for (int64_t i = lo; i < hi; i++) ((real *)y->data)[i] = (real)v;
}

/* A constant: no gradient flows. */
static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    (void)b, (void)y, (void)dy;
    dx[0] = 0;
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 0, flops, bytes);
    *bytes /= 2;                               /* x is not read */
}

static bool sample(struct dan_sample *s, int i)
{
    if (i == DAN_SAMPLE_INPUTS) {
        s->no_grad = true;
        s->y = dan_fill_like(s->b, s->ints(s, DAN_SHAPE(s->rows, 7), 1000, true), -3);
        return true;
    }
    dan_ref x = dan_sample_input(s, i, 0.1, 2);
    if (!x) return false;
    s->y = dan_fill_like(s->b, x, 1.5 - i);
    return true;
}

DAN_OP(fill_like) = {
    .name = "fill_like", .doc = "a constant with the shape and dtype of x",
    .n_in = 1, .attrs = {{"value", 'f'}},
    .props = DAN_OP_LIKE, .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
