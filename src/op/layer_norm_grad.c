/* Gradient of layer_norm.  With xh = (x - mean) * rstd and g = dy * gamma, per row of C:
 *   dx = rstd * (g - mean(g) - xh * mean(g * xh)) (+ dres);   dgamma = sum over rows dy * xh;   dbeta = sum dy.
 * dres is a gradient that reached x past the norm (the residual path); fusing its sum saves a pass.
 * Ba, Kiros, Hinton 2016, differentiated; the same form as llm.c's layernorm_backward. */
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
    int rc = dan_node_parts(g, n, 3, e);
    if (rc) return rc;
    dan_node_part(n, 0, x->dtype, x->shape);
    dan_node_part(n, 1, x->dtype, DAN_SHAPE(c));
    dan_node_part(n, 2, x->dtype, DAN_SHAPE(c));
    return DAN_OK;
}

struct stats { real mean, rstd; };

static struct stats stats_of(const real *x, int64_t c, real eps)
{
    real mean = 0, var = 0;
    for (int64_t i = 0; i < c; i++) mean += x[i];
    mean /= (real)c;
    for (int64_t i = 0; i < c; i++) var += (x[i] - mean) * (x[i] - mean);
    return (struct stats){.mean = mean, .rstd = 1 / (real)sqrt(var / (real)c + eps)};
}

static void grad_row(const real *x, const real *gamma, const real *dy, const real *dres, struct stats s, real *dx, int64_t c)
{
    real mean_g = 0, mean_gx = 0;
    for (int64_t i = 0; i < c; i++) {
        mean_g += dy[i] * gamma[i];
        mean_gx += dy[i] * gamma[i] * (x[i] - s.mean) * s.rstd;
    }
    mean_g /= (real)c;
    mean_gx /= (real)c;
    for (int64_t i = 0; i < c; i++)
        dx[i] = s.rstd * (dy[i] * gamma[i] - mean_g - (x[i] - s.mean) * s.rstd * mean_gx) + (dres ? dres[i] : 0);
}

/* Rows [0,N) of columns [lo,hi). */
static void sum_columns(const struct dan_args *a, const struct stats *s, int64_t lo, int64_t hi)
{
    real *dgamma = a->out[1].data, *dbeta = a->out[2].data;
    for (int64_t i = lo; i < hi; i++) dgamma[i] = dbeta[i] = 0;
    for (int64_t r = 0; r < dan_rows(&a->in[0]); r++) {
        const real *x = dan_row(&a->in[0], r), *dy = dan_row(&a->in[2], r);
        for (int64_t i = lo; i < hi; i++) {
            dgamma[i] += dy[i] * (x[i] - s[r].mean) * s[r].rstd;
            dbeta[i] += dy[i];
        }
    }
}

static size_t ref_ws(const struct dan_args *a, int nth)
{
    (void)nth;
    return (size_t)dan_rows(&a->in[0]) * 2 * sizeof(double);
}

static void ref(const struct dan_args *a)
{
    struct stats *s = a->ws;
    int64_t lo, hi, c = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        s[r] = stats_of(dan_row(&a->in[0], r), c, (real)a->attr[DAN_NORM_EPS].f);
        grad_row(dan_row(&a->in[0], r), a->in[1].data, dan_row(&a->in[2], r), a->in[3].data ? dan_row(&a->in[3], r) : NULL, s[r],
                 dan_row(&a->out[0], r), c);
    }
    dan_args_barrier(a);
    dan_share(a, c, 16, &lo, &hi);
    sum_columns(a, s, lo, hi);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 16, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 1, 64};
    if (i >= 8) return false;
    s->no_grad = true;
    struct dan_shape xs = DAN_SHAPE(s->rows, c[i / 2]);
    dan_ref x = s->real(s, xs, 1, true), gamma = s->real(s, DAN_SHAPE(c[i / 2]), 1, false);
    dan_ref dy = s->real(s, xs, 1, true), dres = i & 1 ? s->real(s, xs, 1, true) : 0;
    s->y = dan_layer_norm_grad(s->b, x, gamma, dy, dres, 1e-5);
    return true;
}

DAN_OP(layer_norm_grad) = {
    .name = "layer_norm_grad",
    .doc = "gradient of layer_norm: dx (+ dres), dgamma, dbeta",
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
