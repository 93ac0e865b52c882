/* y[i] = e^(x[i] - m) / sum_j e^(x[j] - m), m = max x, over the last axis. */
#include "op/util.h"

static void softmax_row(const real *x, real *y, int64_t n)
{
    double m = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) m = fmax(m, (double)x[i]);
    for (int64_t i = 0; i < n; i++) {
        double p = exp((double)x[i] - m);
        y[i] = (real)p;
        sum += p;
    }
    for (int64_t i = 0; i < n; i++) y[i] = (real)((double)y[i] / sum);
}

static void ref(const struct dan_args *a)
{
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) softmax_row(dan_row(&a->in[0], r), dan_row(&a->out[0], r), dan_cols(&a->out[0]));
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    dx[0] = dan_softmax_grad(b, y, dy[0]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 12, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    dan_ref x = dan_sample_input(s, i, 0.1, 3);
    if (!x) return false;
    s->y = dan_softmax(s->b, x);
    return true;
}

DAN_OP(softmax) = {
    .name = "softmax", .doc = "softmax over the last axis",
    .n_in = 1, .props = DAN_OP_INPLACE,
    .infer = dan_infer_float, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
