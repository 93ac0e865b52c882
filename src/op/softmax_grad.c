/* dx[i] = y[i] (dy[i] - sum_j y[j] dy[j]) over the last axis; y is softmax's output. */
#include "op/util.h"

static void grad_row(const real *y, const real *dy, real *dx, int64_t n)
{
    double dot = 0;
    for (int64_t i = 0; i < n; i++) dot += (double)y[i] * (double)dy[i];
    for (int64_t i = 0; i < n; i++) dx[i] = (real)((double)y[i] * ((double)dy[i] - dot));
}

static void ref(const struct dan_args *a)
{
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        grad_row(dan_row(&a->in[0], r), dan_row(&a->in[1], r), dan_row(&a->out[0], r), dan_cols(&a->out[0]));
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 4, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    dan_ref x = dan_sample_input(s, i, 0.1, 3);
    if (!x) return false;
    s->no_grad = true;
    s->y = dan_softmax_grad(s->b, dan_softmax(s->b, x), dan_sample_input(s, i, 0.1, 1));
    return true;
}

DAN_OP(softmax_grad) = {
    .name = "softmax_grad", .doc = "gradient of softmax, from its output",
    .n_in = 2, .props = DAN_OP_INPLACE | DAN_OP_NO_GRAD,
    .infer = dan_infer_twin, .ref = ref, .cost = cost, .sample = sample,
};
