/* dlogits[n,v] = dloss[n] (softmax(logits[n])[v] - [v = t]), t = targets[n]; zero for rows whose
 * target is outside of [0, V).  See softmax_ce.c.  May write over the logits. */
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *logits = dan_in(g, n, 0), *t = dan_in(g, n, 1), *d = dan_in(g, n, 2);
    if (logits->shape.n != 2 || t->dtype != &dan_dtype_i32 || t->shape.n != 1 || t->shape.d[0] != logits->shape.d[0])
        return dan_infer_misfit(n, e, &logits->shape, &t->shape, "give logits [N,V] and targets i32[N]");
    if (d->dtype != logits->dtype || !dan_shape_equal(&d->shape, &t->shape))
        return dan_infer_fail(n, e, "dloss does not go with the targets: give [N] of the dtype of the logits");
    return dan_infer_float(g, n, e);
}

static void grad_row(const real *l, int64_t V, int32_t target, double dloss, real *dl)
{
    double m = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++) m = fmax(m, (double)l[v]);
    for (int64_t v = 0; v < V; v++) sum += exp((double)l[v] - m);
    for (int64_t v = 0; v < V; v++) dl[v] = (real)(dloss * (exp((double)l[v] - m) / sum - (v == target)));
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *logits = &a->in[0], *dlogits = &a->out[0];
    const int32_t *target = a->in[1].data;
    const real *dloss = a->in[2].data;
    int64_t lo, hi, V = dan_cols(logits);
    dan_share(a, dan_rows(logits), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        real *dl = dan_row(dlogits, r);
        if (target[r] >= 0 && target[r] < V)
            grad_row(dan_row(logits, r), V, target[r], (double)dloss[r], dl);
        else
            memset(dl, 0, (size_t)V * sizeof(real));
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 20, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t vocab[] = {17, 1, 133, 40, 9001};
    if (i > 4) return false;
    s->no_grad = true;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, vocab[i]), 2, true);
    if (i == 3) x = dan_slice(s->b, x, 1, 3, 36);
    dan_ref t = s->ints(s, DAN_SHAPE(s->rows), vocab[i] + 2, true);
    s->y = dan_softmax_ce_grad(s->b, x, t, s->real(s, DAN_SHAPE(s->rows), 1, true));
    return true;
}

DAN_OP(softmax_ce_grad) = {
    .name = "softmax_ce_grad", .doc = "gradient of softmax_ce",
    .n_in = 3, .props = DAN_OP_INPLACE | DAN_OP_NO_GRAD,
    .infer = infer, .ref = ref, .cost = cost, .sample = sample,
};
