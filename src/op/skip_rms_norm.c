/* Parts: s = x + y and rms_norm(s) (rms_norm.c).
 * One pass instead of an add and a norm: made by fuse_skip_norm after autodiff, so it has no gradient. */
#include "op/op.h"
#include "op/rounded.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *y = dan_in(g, n, 1);
    if (!dan_is_float(x->dtype) || x->shape.n < 1) return dan_infer_fail(n, e, "x must be f32 or f64 with at least one dimension");
    if (y->dtype != x->dtype || !dan_shape_equal(&y->shape, &x->shape)) return dan_infer_fail(n, e, "y must have the type and shape of x");
    int64_t c = x->shape.d[x->shape.n - 1];
    if (!dan_is_vector(dan_in(g, n, 2), x->dtype, c))
        return dan_infer_fail(n, e, "gamma must be '%s' [%lld], the last dimension of x", x->dtype->name, (long long)c);
    int rc = dan_node_parts(g, n, 2, e);
    if (rc) return rc;
    dan_node_part(n, 0, x->dtype, x->shape);
    dan_node_part(n, 1, x->dtype, x->shape);
    return rounded_output(n, n->attr[DAN_NORM_ROUND].i, &n->part[1].dtype, &n->part[1].shape, e);
}

static void norm_row(const real *x, const real *gamma, real *y, int64_t c, real eps)
{
    real ss = 0;
    for (int64_t i = 0; i < c; i++) ss += x[i] * x[i];
    real rstd = 1 / (real)sqrt(ss / (real)c + eps);
    for (int64_t i = 0; i < c; i++) y[i] = x[i] * rstd * gamma[i];
}

static size_t ref_ws(const struct dan_args *a, int nth) { return a->attr[DAN_NORM_ROUND].i ? rounded_ws(a, nth) : 0; }

static void ref(const struct dan_args *a)
{
    int64_t lo, hi, c = dan_cols(&a->in[0]), form = a->attr[DAN_NORM_ROUND].i;
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *x = dan_row(&a->in[0], r), *y = dan_row(&a->in[1], r);
        real *sum = dan_row(&a->out[0], r);
        for (int64_t i = 0; i < c; i++) sum[i] = x[i] + y[i];
        real *normed = form ? rounded_tmp(a) : dan_row(&a->out[1], r);
        norm_row(sum, a->in[2].data, normed, c, (real)a->attr[DAN_NORM_EPS].f);
        if (form) rounded_row(form, normed, c, rounded_tmp(a), dan_row(&a->out[1], r));
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 5, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 1, 64};
    if (i >= 4) return false;
    s->no_grad = true;
    struct dan_shape xs = DAN_SHAPE(s->rows, c[i]);
    dan_ref x = dan_sample_columns(s, c[i], i == 3);
    dan_ref y = s->real(s, xs, 1, true), gamma = s->real(s, DAN_SHAPE(c[i]), 1, false);
    s->y = dan_skip_rms_norm(s->b, x, y, gamma, 1e-5);
    return true;
}

DAN_OP(skip_rms_norm) = {
    .name = "skip_rms_norm",
    .doc = "parts x + y, rms_norm(x + y)",
    .n_in = 3, .half_in = 0x2, .half_out = 0x2,
    .props = DAN_OP_NO_GRAD | DAN_OP_ROWWISE,
    .attrs = {{"eps", 'f'}, {"round", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
