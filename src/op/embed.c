/* y[i] = table[ids[i]]; an id outside [0,V) gives a zero row and no gradient.  The table may be stored in
 * any format of src/dtype/.  The gradient adds dy's rows to a zero table in row order. */
#include "op/op.h"
#include "op/node.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *table = dan_in(g, n, 0), *ids = dan_in(g, n, 1);
    if (table->shape.n != 2) return dan_infer_fail(n, e, "table must be [V,C], not %d-dimensional", (int)table->shape.n);
    if (!dan_is_float(table->dtype) && !table->dtype->to_f32)
        return dan_infer_fail(n, e, "table in '%s' cannot be read as numbers", table->dtype->name);
    if (ids->dtype != &dan_dtype_i32 || ids->shape.n >= DAN_MAX_DIMS)
        return dan_infer_fail(n, e, "ids must be i32 with fewer than %d dimensions", DAN_MAX_DIMS);
    n->n_out = 1;
    n->dtype = dan_is_float(table->dtype) ? table->dtype : &dan_dtype_f32;
    n->shape = ids->shape;
    n->shape.d[n->shape.n++] = table->shape.d[1];
    return DAN_OK;
}

static size_t ref_ws(const struct dan_args *a, int nth)
{
    return (size_t)nth * (((size_t)a->in[0].shape.d[1] * sizeof(float) + 63) / 64 * 64);
}

static void load_row(const struct dan_tensor *table, int64_t id, real *y, float *tmp)
{
    int64_t c = table->shape.d[1];
    if (id < 0 || id >= table->shape.d[0]) {
        memset(y, 0, (size_t)c * sizeof *y);
    } else if (table->dtype == DAN_REAL_DTYPE) {
        memcpy(y, dan_row(table, id), (size_t)c * sizeof *y);
    } else {
        table->dtype->to_f32(dan_row(table, id), tmp, c);
        for (int64_t i = 0; i < c; i++) y[i] = tmp[i];
    }
}

static void ref(const struct dan_args *a)
{
    int64_t lo, hi;
    float *tmp = (float *)((char *)a->ws + ref_ws(a, 1) * (size_t)a->ith);
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) load_row(&a->in[0], dan_id_at(&a->in[1], r), dan_row(&a->out[0], r), tmp);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    if (!dan_is_float(dan_at(b->g, n.in[0])->dtype)) return;     /* a quantised table is frozen */
    dx[0] = dan_scatter_add(b, dan_fill_like(b, n.in[0], 0), dy[0], n.in[1]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    (void)g;
    *flops = 0;
    *bytes = 2.0 * (double)dan_dtype_bytes(n->dtype, dan_shape_count(&n->shape));
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 64, 1};
    if (i >= 5) return false;
    if (i == 4) {                                      /* ids with two dimensions */
        s->y = dan_embed(s->b, s->real(s, DAN_SHAPE(5, 8), 1, false), s->ints(s, DAN_SHAPE(s->rows, 2), 5, true));
        return true;
    }
    dan_ref table = s->real(s, DAN_SHAPE(11, c[i]), 1, false);
    s->y = dan_embed(s->b, table, s->ints(s, DAN_SHAPE(s->rows), i == 1 ? 14 : 11, true));     /* 1: some out of range */
    return true;
}

DAN_OP(embed) = {
    .name = "embed",
    .doc = "rows of a table by id; ids out of range give zero rows",
    .n_in = 2,
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
