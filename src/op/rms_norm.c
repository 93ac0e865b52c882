/* y = x / sqrt(mean(x^2) + eps) * gamma, over the last axis.
 * Zhang, Sennrich 2019, "Root Mean Square Layer Normalization". */
#include "op/op.h"
#include "op/rounded.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0);
    if (!dan_is_float(x->dtype) || x->shape.n < 1) return dan_infer_fail(n, e, "x must be f32 or f64 with at least one dimension");
    int64_t c = x->shape.d[x->shape.n - 1];
    if (!dan_is_vector(dan_in(g, n, 1), x->dtype, c))
        return dan_infer_fail(n, e, "gamma must be '%s' [%lld], the last dimension of x", x->dtype->name, (long long)c);
    int rc = dan_infer_same(g, n, e);
    return rc ? rc : rounded_output(n, n->attr[DAN_NORM_ROUND].i, &n->dtype, &n->shape, e);
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
        real *y = form ? rounded_tmp(a) : dan_row(&a->out[0], r);
        norm_row(dan_row(&a->in[0], r), a->in[1].data, y, c, (real)a->attr[DAN_NORM_EPS].f);
        if (form) rounded_row(form, y, c, rounded_tmp(a), dan_row(&a->out[0], r));
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    if (n.attr[DAN_NORM_ROUND].i) {
        dan_poison(b, DAN_EINVAL, "%s at '%s' rounds its rows and has no gradient: run autodiff before fuse_norm_quantise", n.op->name,
                   n.where ? n.where : "?");
        return;
    }
    dan_ref grad = dan_rms_norm_grad(b, n.in[0], n.in[1], dy[0], 0, n.attr[DAN_NORM_EPS].f);
    dx[0] = dan_pick(b, grad, 0);
    dx[1] = dan_pick(b, grad, 1);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 4, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 1, 64, 16};
    if (i >= 5) return false;
    dan_ref x = i == 4 ? s->real(s, DAN_SHAPE(s->rows, 3, 16), 1, true) : dan_sample_columns(s, c[i], i == 3);
    s->y = dan_rms_norm(s->b, x, s->real(s, DAN_SHAPE(c[i]), 1, false), 1e-5);
    return true;
}

DAN_OP(rms_norm) = {
    .name = "rms_norm",
    .doc = "x / sqrt(mean(x^2) + eps) * gamma over the last axis",
    .n_in = 2, .half_out = 0x1, .props = DAN_OP_ROWWISE | DAN_OP_STRIDED,
    .attrs = {{"eps", 'f'}, {"round", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
