/* Gradient of rms_norm.  With r = 1/sqrt(mean(x^2) + eps) and g = dy * gamma, per row of C:
 *   dx = r * g - x * r^3 * mean(g * x) (+ dres);   dgamma = sum over rows dy * x * r.
 * dres is a gradient that reached x past the norm (the residual path).  Zhang, Sennrich 2019, section 4. */
#include "op/op.h"
#include "op/node.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *dy = dan_in(g, n, 2), *dres = dan_in_opt(g, n, 3);
    if (!dan_is_float(x->dtype) || x->shape.n < 1) return dan_infer_fail(n, e, "x must be f32 or f64 with at least one dimension");
    int64_t c = x->shape.d[x->shape.n - 1];
    if (!dan_is_vector(dan_in(g, n, 1), x->dtype, c))
        return dan_infer_fail(n, e, "gamma must be '%s' [%lld]", x->dtype->name, (long long)c);
    if (dy->dtype != x->dtype || !dan_shape_equal(&dy->shape, &x->shape))
        return dan_infer_fail(n, e, "dy must have the type and shape of x");
    if (dres && (dres->dtype != x->dtype || !dan_shape_equal(&dres->shape, &x->shape)))
        return dan_infer_fail(n, e, "dres must have the type and shape of x");
    int rc = dan_node_parts(g, n, 2, e);
    if (rc) return rc;
    dan_node_part(n, 0, x->dtype, x->shape);
    dan_node_part(n, 1, x->dtype, DAN_SHAPE(c));
    return DAN_OK;
}

static real rstd_of(const real *x, int64_t c, real eps)
{
    real ss = 0;
    for (int64_t i = 0; i < c; i++) ss += x[i] * x[i];
    return 1 / (real)sqrt(ss / (real)c + eps);
}

static void grad_row(const real *x, const real *gamma, const real *dy, const real *dres, real rstd, real *dx, int64_t c)
{
    real dot = 0;
    for (int64_t i = 0; i < c; i++) dot += dy[i] * gamma[i] * x[i];
    real k = rstd * rstd * rstd * dot / (real)c;
    for (int64_t i = 0; i < c; i++) dx[i] = rstd * dy[i] * gamma[i] - x[i] * k + (dres ? dres[i] : 0);
}

/* Rows [0,N) of columns [lo,hi). */
static void sum_columns(const struct dan_args *a, const real *rstd, int64_t lo, int64_t hi)
{
    real *dgamma = a->out[1].data;
    for (int64_t i = lo; i < hi; i++) dgamma[i] = 0;
    for (int64_t r = 0; r < dan_rows(&a->in[0]); r++) {
        const real *x = dan_row(&a->in[0], r), *dy = dan_row(&a->in[2], r);
        for (int64_t i = lo; i < hi; i++) dgamma[i] += dy[i] * x[i] * rstd[r];
    }
}

static size_t ref_ws(const struct dan_args *a, int nth)
{
    (void)nth;
    return (size_t)dan_rows(&a->in[0]) * sizeof(double);
}

static void ref(const struct dan_args *a)
{
    real *rstd = a->ws;
    int64_t lo, hi, c = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        rstd[r] = rstd_of(dan_row(&a->in[0], r), c, (real)a->attr[DAN_NORM_EPS].f);
        grad_row(dan_row(&a->in[0], r), a->in[1].data, dan_row(&a->in[2], r), a->in[3].data ? dan_row(&a->in[3], r) : NULL, rstd[r],
                 dan_row(&a->out[0], r), c);
    }
    dan_args_barrier(a);
    dan_share(a, c, 16, &lo, &hi);
    sum_columns(a, rstd, lo, hi);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 12, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 3, 64};         /* C = 1: dx is a difference of equal numbers */
    if (i >= 8) return false;
    s->no_grad = true;
    struct dan_shape xs = DAN_SHAPE(s->rows, c[i / 2]);
    dan_ref x = s->real(s, xs, 1, true), gamma = s->real(s, DAN_SHAPE(c[i / 2]), 1, false);
    dan_ref dy = s->real(s, xs, 1, true), dres = i & 1 ? s->real(s, xs, 1, true) : 0;
    s->y = dan_rms_norm_grad(s->b, x, gamma, dy, dres, 1e-5);
    return true;
}

DAN_OP(rms_norm_grad) = {
    .name = "rms_norm_grad",
    .doc = "gradient of rms_norm: dx (+ dres), dgamma",
    .n_in = 4, .half_in = 0x4,
    .n_opt = 1,
    .props = DAN_OP_NO_GRAD,
    .attrs = {{"eps", 'f'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
