/* Loss and gradients of head_ce at once.  With p = softmax(x_n w^T), t = targets[n]:
 *   loss[n] = lse_n - x_n . w_t;   g_nv = (p_v - [v = t]) dloss[n];   dx_n = sum_v g_nv w_v;   dw_v = sum_n g_nv x_n
 * g is recomputed from lse wherever it is needed.  With prec bf16 the operands of all three products are rounded.  A frozen head has no dw, and may then be in any
 * storage format. */
#include "op/op.h"
#include "op/head_ce.h"
#include "op/node.h"
#include "op/prec.h"

enum { LOSS, DX, DW };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *w = dan_in(g, n, 1), *t = dan_in(g, n, 2), *dl = dan_in(g, n, 3);
    bool frozen = n->attr[DAN_CE_FROZEN].i;
    if (!dan_is_float(x->dtype) || !(frozen ? dan_head_takes(x->dtype, w->dtype) : w->dtype == x->dtype))
        return dan_infer_fail(n, e, frozen ? "x must be f32 or f64, w the same or, beside an f32 x, any storage format"
                                           : "x and w must both be f32 or both f64: a head that learns is stored as its rows are");
    if (x->shape.n != 2 || w->shape.n != 2 || x->shape.d[1] != w->shape.d[1])
        return dan_infer_fail(n, e, "x must be [N,C] and w [V,C] with the same C");
    if (t->dtype != &dan_dtype_i32 || t->shape.n != 1 || t->shape.d[0] != x->shape.d[0])
        return dan_infer_fail(n, e, "targets must be i32 [N]");
    if (!dan_is_vector(dl, x->dtype, x->shape.d[0])) return dan_infer_fail(n, e, "dloss must be '%s' [N]", x->dtype->name);
    if (n->attr[DAN_CE_CHUNK].i <= 0) return dan_infer_fail(n, e, "chunk %lld must be positive", (long long)n->attr[DAN_CE_CHUNK].i);
    int rc = dan_node_parts(g, n, frozen ? 2 : 3, e);
    if (rc) return rc;
    dan_node_part(n, LOSS, x->dtype, DAN_SHAPE(x->shape.d[0]));
    dan_node_part(n, DX, x->dtype, x->shape);
    if (!frozen) dan_node_part(n, DW, x->dtype, w->shape);
    return DAN_OK;
}

static size_t row_bytes(const struct dan_args *a) { return (size_t)a->in[1].shape.d[1] * sizeof(double); }

/* lse[N], shared: rows are written by one thread and read by all; then a row of w for each thread. */
static size_t ref_ws(const struct dan_args *a, int nth) { return (size_t)a->in[0].shape.d[0] * sizeof(double) + (size_t)nth * row_bytes(a); }

static const real *weights(const struct dan_args *a, int64_t v)
{
    void *row = dan_row(&a->in[1], v);
    if (a->in[1].dtype == a->in[0].dtype) return row;
    char *room = (char *)a->ws + (size_t)a->in[0].shape.d[0] * sizeof(double) + (size_t)a->ith * row_bytes(a);
    a->in[1].dtype->to_f32(row, (float *)room, a->in[1].shape.d[1]);
    return (const real *)room;                 /* f32: what infer lets pass */
}

static real logit(const struct dan_args *a, int64_t n, int64_t v)
{
    const real *x = dan_row(&a->in[0], n), *w = weights(a, v);
    int64_t prec = a->attr[DAN_CE_PREC].i;
    real sum = 0;
    for (int64_t i = 0; i < a->in[1].shape.d[1]; i++) sum += dan_prec_round(x[i], prec) * dan_prec_round(w[i], prec);
    return sum;
}

static bool has_loss(const struct dan_args *a, int64_t n)
{
    int32_t t = ((const int32_t *)a->in[2].data)[n];
    return t >= 0 && t < a->in[1].shape.d[0];
}

static real log_sum_exp(const struct dan_args *a, int64_t n)
{
    real max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < a->in[1].shape.d[0]; v++) {
        real z = logit(a, n, v), top = z > max ? z : max;
        sum = sum * (real)exp(max - top) + (real)exp(z - top);
        max = top;
    }
    return max + (real)log(sum);
}

/* d loss[n] / d logit[v], times dloss[n] */
static real grad_logit(const struct dan_args *a, int64_t n, int64_t v, real lse)
{
    real g = (real)exp(logit(a, n, v) - lse) - (((const int32_t *)a->in[2].data)[n] == v);
    return dan_prec_round(g * ((const real *)a->in[3].data)[n], a->attr[DAN_CE_PREC].i);
}

static void add_scaled(real *y, real g, const real *x, int64_t c, int64_t prec)
{
    for (int64_t i = 0; i < c; i++) y[i] += g * dan_prec_round(x[i], prec);
}

static void ref(const struct dan_args *a)
{
    int64_t n_rows = a->in[0].shape.d[0], n_vocab = a->in[1].shape.d[0], c = a->in[1].shape.d[1], prec = a->attr[DAN_CE_PREC].i, lo, hi;
    real *lse = a->ws, *loss = a->out[LOSS].data;
    dan_share(a, n_rows, 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        real *dx = dan_row(&a->out[DX], n);
        lse[n] = has_loss(a, n) ? log_sum_exp(a, n) : 0;
        loss[n] = has_loss(a, n) ? lse[n] - logit(a, n, ((const int32_t *)a->in[2].data)[n]) : 0;
        memset(dx, 0, (size_t)c * sizeof *dx);
        for (int64_t v = 0; v < n_vocab && has_loss(a, n); v++) add_scaled(dx, grad_logit(a, n, v, lse[n]), weights(a, v), c, prec);
    }
    if (a->n_out <= DW) return;
    dan_args_barrier(a);
    dan_share(a, n_vocab, 1, &lo, &hi);
    for (int64_t v = lo; v < hi; v++) {
        real *dw = dan_row(&a->out[DW], v);
        memset(dw, 0, (size_t)c * sizeof *dw);
        for (int64_t n = 0; n < n_rows; n++)
            if (has_loss(a, n)) add_scaled(dw, grad_logit(a, n, v, lse[n]), dan_row(&a->in[0], n), c, prec);
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_shape *x = &dan_in(g, n, 0)->shape, *w = &dan_in(g, n, 1)->shape;
    *flops = (n->attr[DAN_CE_FROZEN].i ? 4.0 : 6.0) * (double)x->d[0] * (double)x->d[1] * (double)w->d[0];
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {7, 33, 64, 1, 33, 33}, v[] = {11, 50, 65, 3, 50, 50}, chunk[] = {4, 50, 16, 8, 16, 16};
    if (i >= 6) return false;
    s->no_grad = true;
    dan_ref x = dan_sample_columns(s, c[i], i == 2);
    dan_ref w = s->real(s, DAN_SHAPE(v[i], c[i]), 0.5, false), t = s->ints(s, DAN_SHAPE(s->rows), v[i] + (i == 1 || i == 5 ? 5 : 0), true);                /* 1, 5: some out of range */
    dan_ref dl = s->real(s, DAN_SHAPE(s->rows), 1, true);
    s->y = i == 5 ? dan_head_ce_frozen(s->b, x, w, t, dl, chunk[i], DAN_PREC_F32) : dan_head_ce_grad(s->b, x, w, t, dl, chunk[i], i == 4 ? DAN_PREC_BF16 : DAN_PREC_F32);
    return true;
}

DAN_OP(head_ce_grad) = {
    .name = "head_ce_grad",
    .doc = "loss, dx and dw of head_ce in one pass over the vocabulary",
    .n_in = 4,
    .props = DAN_OP_NO_GRAD,
    .attrs = {{"chunk", 'i'}, {"prec", 'i'}, {"frozen", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
