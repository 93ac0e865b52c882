/* loss[n] = ln sum_v e^(x_n . w_v) - x_n . w_t, t = targets[n], without ever holding the logits [N,V]:
 * the vocabulary is walked in chunks with a running maximum and sum (Milakov, Gimelshein 2018, "Online
 * normalizer calculation for softmax"; Wijmans et al. 2024, "Cut your losses").  Targets outside [0,V), such
 * as -1, give loss 0 and no gradient.  x [N,C], w [V,C], loss in nats. */
#include "op/op.h"
#include "op/head_ce.h"
#include "op/node.h"
#include "op/prec.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *w = dan_in(g, n, 1), *t = dan_in(g, n, 2);
    if (!dan_is_float(x->dtype) || !dan_head_takes(x->dtype, w->dtype))
        return dan_infer_fail(n, e, "x must be f32 or f64, w the same or, beside an f32 x, any storage format");
    if (x->shape.n != 2 || w->shape.n != 2 || x->shape.d[1] != w->shape.d[1])
        return dan_infer_fail(n, e, "x must be [N,C] and w [V,C] with the same C");
    if (t->dtype != &dan_dtype_i32 || t->shape.n != 1 || t->shape.d[0] != x->shape.d[0])
        return dan_infer_fail(n, e, "targets must be i32 [N]");
    if (n->attr[DAN_CE_CHUNK].i <= 0) return dan_infer_fail(n, e, "chunk %lld must be positive", (long long)n->attr[DAN_CE_CHUNK].i);
    n->n_out = 1;
    n->dtype = x->dtype;
    n->shape = DAN_SHAPE(x->shape.d[0]);
    return DAN_OK;
}

static size_t chunk_bytes(const struct dan_args *a) { return ((size_t)a->attr[DAN_CE_CHUNK].i * sizeof(double) + 63) / 64 * 64; }
static size_t row_bytes(const struct dan_args *a) { return ((size_t)a->in[1].shape.d[1] * sizeof(double) + 63) / 64 * 64; }
static size_t ref_ws(const struct dan_args *a, int nth) { return (chunk_bytes(a) + row_bytes(a)) * (size_t)nth; }
static char *own_ws(const struct dan_args *a) { return (char *)a->ws + (chunk_bytes(a) + row_bytes(a)) * (size_t)a->ith; }

static const real *weights(const struct dan_args *a, int64_t v)
{
    void *row = dan_row(&a->in[1], v), *room = own_ws(a) + chunk_bytes(a);
    if (a->in[1].dtype == a->in[0].dtype) return row;
    a->in[1].dtype->to_f32(row, room, a->in[1].shape.d[1]);
    return room;                               /* f32: what infer lets pass */
}

static real logit(const struct dan_args *a, const real *x, int64_t v)
{
    const real *w = weights(a, v);
    int64_t prec = a->attr[DAN_CE_PREC].i;
    real sum = 0;
    for (int64_t i = 0; i < a->in[1].shape.d[1]; i++) sum += dan_prec_round(x[i], prec) * dan_prec_round(w[i], prec);
    return sum;
}

/* ln sum_v e^logit; z holds one chunk. */
static real log_sum_exp(const struct dan_args *a, const real *x, real *z)
{
    int64_t n_vocab = a->in[1].shape.d[0], chunk = a->attr[DAN_CE_CHUNK].i;
    real max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < n_vocab; v += chunk) {
        int64_t n = n_vocab - v < chunk ? n_vocab - v : chunk;
        real top = max;
        for (int64_t i = 0; i < n; i++) {
            z[i] = logit(a, x, v + i);
            if (z[i] > top) top = z[i];
        }
        sum *= (real)exp(max - top);
        for (int64_t i = 0; i < n; i++) sum += (real)exp(z[i] - top);
        max = top;
    }
    return max + (real)log(sum);
}

static void ref(const struct dan_args *a)
{
    const int32_t *target = a->in[2].data;
    real *loss = a->out[0].data, *z = (real *)own_ws(a);
    int64_t lo, hi;
    dan_share(a, a->in[0].shape.d[0], 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        const real *x = dan_row(&a->in[0], n);
        bool has_loss = target[n] >= 0 && target[n] < a->in[1].shape.d[0];
        loss[n] = has_loss ? log_sum_exp(a, x, z) - logit(a, x, target[n]) : 0;
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    dan_ref grad = dan_head_ce_grad(b, n.in[0], n.in[1], n.in[2], dy[0], n.attr[DAN_CE_CHUNK].i, (enum dan_prec)n.attr[DAN_CE_PREC].i);
    dx[0] = dan_pick(b, grad, 1);
    dx[1] = dan_pick(b, grad, 2);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_shape *x = &dan_in(g, n, 0)->shape, *w = &dan_in(g, n, 1)->shape;
    *flops = 2.0 * (double)x->d[0] * (double)x->d[1] * (double)w->d[0];
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 64, 1, 33}, v[] = {11, 50, 65, 3, 50}, chunk[] = {4, 50, 16, 8, 16};
    if (i >= 5) return false;
    s->no_grad = i == 4;                               /* bf16 rounds, its gradient is not the derivative */
    dan_ref x = dan_sample_columns(s, c[i], i == 2);
    dan_ref w = s->real(s, DAN_SHAPE(v[i], c[i]), 0.5, false);
    dan_ref t = s->ints(s, DAN_SHAPE(s->rows), v[i] + (i == 1 ? 5 : 0), true);                 /* 1: some out of range */
    s->y = dan_head_ce(s->b, x, w, t, chunk[i], i == 4 ? DAN_PREC_BF16 : DAN_PREC_F32);
    return true;
}

DAN_OP(head_ce) = {
    .name = "head_ce",
    .doc = "softmax cross entropy of x w^T per row, logits never stored",
    .n_in = 3,
    .attrs = {{"chunk", 'i'}, {"prec", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
