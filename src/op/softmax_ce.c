/* Cross entropy in nats: loss[n] = log sum_v e^l[n,v] - l[n,t], t = targets[n].  Rows whose target
 * is outside of [0, V) (-1 by convention) have loss 0.  logits [N,V], targets i32[N], loss [N]. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *logits = dan_in(g, n, 0), *t = dan_in(g, n, 1);
    if (logits->shape.n != 2 || t->dtype != &dan_dtype_i32 || t->shape.n != 1 || t->shape.d[0] != logits->shape.d[0])
        return dan_infer_misfit(n, e, &logits->shape, &t->shape, "give logits [N,V] and targets i32[N]");
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    n->shape = t->shape;
    return DAN_OK;
}

static double log_sum_exp(const real *x, int64_t n)
{
    double m = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) m = fmax(m, (double)x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - m);
    return m + log(sum);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *logits = &a->in[0];
    const int32_t *target = a->in[1].data;
    real *loss = a->out[0].data;
    int64_t lo, hi, V = dan_cols(logits);
    dan_share(a, dan_rows(logits), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *l = dan_row(logits, r);
        bool counts = target[r] >= 0 && target[r] < V;
        loss[r] = counts ? (real)(log_sum_exp(l, V) - (double)l[target[r]]) : 0;
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const dan_ref *in = dan_at(b->g, y)->in;
    dx[0] = dan_softmax_ce_grad(b, in[0], in[1], dy[0]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = 10 * (double)dan_shape_count(&dan_in(g, n, 0)->shape);
    *bytes = dan_cost_bytes(g, n);
}

/* Targets up to V + 1: some rows are out of range. */
static bool sample(struct dan_sample *s, int i)
{
    static const int64_t vocab[] = {17, 1, 133, 40, 0, 9001};   /* the last: more than a kernel takes at once */
    if (i > 5) return false;
    s->no_grad = i == 5;                               /* as the others, and large */
    if (i == 4) {
        dan_ref x = s->real(s, DAN_SHAPE(3, 7), 2, false);
        s->y = dan_softmax_ce(s->b, x, s->values(s, DAN_SHAPE(3), (const int32_t[]){-1, 2, 6}, false));
        return true;
    }
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, vocab[i]), 2, true);
    if (i == 3) x = dan_slice(s->b, x, 1, 3, 36);
    s->y = dan_softmax_ce(s->b, x, s->ints(s, DAN_SHAPE(s->rows), vocab[i] + 2, true));
    return true;
}

DAN_OP(softmax_ce) = {
    .name = "softmax_ce", .doc = "cross entropy of logits against target ids, per row",
    .n_in = 2,
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
