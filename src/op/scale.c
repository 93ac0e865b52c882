/* y = by * x. */
#include "op/util.h"

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    real by = (real)a->attr[DAN_SCALE_BY].f;
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c++) yr[c] = by * xr[c];
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    dx[0] = dan_scale(b, dy[0], dan_at(b->g, y)->attr[DAN_SCALE_BY].f);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 1, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    dan_ref x = dan_sample_input(s, i, 0.1, 2);
    if (!x) return false;
    s->y = dan_scale(s->b, x, -0.7 + i);
    return true;
}

DAN_OP(scale) = {
    .name = "scale", .doc = "by * x",
    .n_in = 1, .props = DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_ROWWISE | DAN_OP_STRIDED, .attrs = {{"by", 'f'}},
    .infer = dan_infer_float, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
