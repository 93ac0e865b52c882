/* y = base; y[ids[i]] += rows[i] for i = 0, 1, ... in this order; ids outside [0,V) are dropped.
 * The gradient of embed.  Threads own columns, so the order of sums never depends on their number. */
#include "op/op.h"
#include "op/node.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *base = dan_in(g, n, 0), *rows = dan_in(g, n, 1), *ids = dan_in(g, n, 2);
    if (!dan_is_float(base->dtype) || base->shape.n != 2) return dan_infer_fail(n, e, "base must be f32 or f64 [V,C]");
    if (rows->dtype != base->dtype || rows->shape.n < 1 || rows->shape.d[rows->shape.n - 1] != base->shape.d[1])
        return dan_infer_fail(n, e, "rows must be '%s' with the columns of base", base->dtype->name);
    if (ids->dtype != &dan_dtype_i32 || ids->shape.n != rows->shape.n - 1) return dan_infer_fail(n, e, "ids must be i32, one a row");
    for (int i = 0; i < ids->shape.n; i++)
        if (ids->shape.d[i] != rows->shape.d[i]) return dan_infer_fail(n, e, "ids must be i32, one a row");
    return dan_infer_same(g, n, e);
}

static void ref(const struct dan_args *a)
{
    int64_t lo, hi, v = a->out[0].shape.d[0], n = dan_rows(&a->in[1]);
    dan_share(a, a->out[0].shape.d[1], 16, &lo, &hi);
    if (a->out[0].data != a->in[0].data)
        for (int64_t r = 0; r < v && lo < hi; r++)
            memcpy((real *)dan_row(&a->out[0], r) + lo, (const real *)dan_row(&a->in[0], r) + lo, (size_t)(hi - lo) * sizeof(real));
    for (int64_t r = 0; r < n; r++) {
        int32_t id = dan_id_at(&a->in[2], r);
        if (id < 0 || id >= v) continue;
        real *y = dan_row(&a->out[0], id);
        const real *x = dan_row(&a->in[1], r);
        for (int64_t i = lo; i < hi; i++) y[i] += x[i];
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    dx[0] = dy[0];
    dx[1] = dan_embed(b, dy[0], n.in[2]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_shape *rows = &dan_in(g, n, 1)->shape;
    *flops = (double)dan_shape_count(rows);
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 64, 1};
    if (i >= 4) return false;
    dan_ref base = s->real(s, DAN_SHAPE(5, c[i]), 1, false);
    dan_ref rows = dan_sample_columns(s, c[i], i == 2);
    s->y = dan_scatter_add(s->b, base, rows, s->ints(s, DAN_SHAPE(s->rows), i == 1 ? 7 : 5, true));       /* 1: some out of range */
    return true;
}

DAN_OP(scatter_add) = {
    .name = "scatter_add",
    .doc = "base[ids[i]] += rows[i], in row order",
    .n_in = 3,
    .props = DAN_OP_INPLACE,
    .infer = infer,
    .ref = ref,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
