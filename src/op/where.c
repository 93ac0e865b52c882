/* z[i] = cond[i] != 0 ? x[i] : y[i].  cond i32 has the rank of x, its dims are equal or 1. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *cond = dan_in(g, n, 0), *x = dan_in(g, n, 1), *y = dan_in(g, n, 2);
    bool fits = cond->shape.n == x->shape.n;
    if (cond->dtype != &dan_dtype_i32)
        return dan_infer_fail(n, e, "condition is '%s': it must be i32", cond->dtype->name);
    if (!dan_is_float(x->dtype) || x->dtype != y->dtype || !dan_shape_equal(&x->shape, &y->shape))
        return dan_infer_fail(n, e, "the two choices differ: give two of the same shape and the same dtype, f32 or f64");
    for (int i = 0; fits && i < x->shape.n; i++) fits = cond->shape.d[i] == x->shape.d[i] || cond->shape.d[i] == 1;
    if (!fits) return dan_infer_misfit(n, e, &cond->shape, &x->shape, "the condition needs the rank of x, and dims equal or 1");
    n->n_out = 1;
    n->dtype = x->dtype;
    n->shape = x->shape;
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *z = &a->out[0];
    struct dan_operand cond = dan_operand_of(&a->in[0], &z->shape);
    int64_t lo, hi, cols = dan_cols(z), step = dan_operand_step(&cond, &z->shape);
    dan_share(a, dan_rows(z), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const int32_t *cr = (const int32_t *)dan_operand_row(&cond, &z->shape, r);
        const real *xr = dan_row(&a->in[1], r), *yr = dan_row(&a->in[2], r);
        real *zr = dan_row(z, r);
        for (int64_t c = 0; c < cols; c++) zr[c] = cr[c * step] ? xr[c] : yr[c];
    }
}

static void vjp(struct dan_builder *b, dan_ref z, const dan_ref *dz, dan_ref *dx)
{
    dan_ref cond = dan_at(b->g, z)->in[0], zero = dan_fill_like(b, dz[0], 0);
    dx[1] = dan_where(b, cond, dz[0], zero);
    dx[2] = dan_where(b, cond, zero, dz[0]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 1, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const int64_t N = s->rows;
    const struct { struct dan_shape cond, x; bool dyn; } cases[] = {
        {DAN_SHAPE(N, 17), DAN_SHAPE(N, 17), true},
        {DAN_SHAPE(N, 1), DAN_SHAPE(N, 7), true},
        {DAN_SHAPE(1, 33), DAN_SHAPE(N, 33), false},
        {DAN_SHAPE(N, 1, 5), DAN_SHAPE(N, 3, 5), true},
    };
    if (i > 4) return false;
    dan_ref cond = s->ints(s, i == 4 ? DAN_SHAPE(N, 17) : cases[i].cond, 2, i == 4 || cases[i].dyn);
    struct dan_shape shape = i == 4 ? DAN_SHAPE(N, 20) : cases[i].x;
    dan_ref x = s->real(s, shape, 1, true), y = s->real(s, shape, 1, true);
    if (i == 4) x = dan_slice(s->b, x, 1, 2, 19), y = dan_slice(s->b, y, 1, 0, 17);
    s->y = dan_where(s->b, cond, x, y);
    return true;
}

DAN_OP(where) = {
    .name = "where", .doc = "x where cond is not 0, else y",
    .n_in = 3, .props = DAN_OP_ELEMENTWISE | DAN_OP_STRIDED,
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
