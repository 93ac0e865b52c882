/* Gradient of attend from its outputs o and lse and the gradient do, without keeping any probability:
 *   p_j = e^(scale q.k_j - lse);  D = do.o;  ds_j = p_j (do.v_j - D) scale      (capped: t = tanh(scale q.k_j / cap),
 *   p_j = e^(cap t - lse), ds_j times 1 - t^2)
 *   dq = sum_j ds_j k_j;  dk_j = sum_n ds_nj q_n;  dv_j = sum_n p_nj do_n   (n over rows and heads of the group)
 * Dao et al. 2022, "FlashAttention", appendix B.2. */
#include "op/op.h"
#include "op/attend_infer.h"

enum { Q, K, V, RANGE, O, LSE, DO };
enum { DQ, DK, DV };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int rc = attend_check(g, n, e);
    if (rc) return rc;
    const struct dan_node *q = dan_in(g, n, Q), *k = dan_in(g, n, K);
    const struct dan_node *o = dan_in(g, n, O), *lse = dan_in(g, n, LSE), *d_o = dan_in(g, n, DO);
    if (k->shape.n != 2) return dan_infer_fail(n, e, "k and v must be rows [S,K*D]: a cache has no gradient");
    struct dan_shape nh = DAN_SHAPE(q->shape.d[0], n->attr[DAN_ATTEND_HEADS].i);
    bool same_type = o->dtype == q->dtype && d_o->dtype == q->dtype;
    if (!same_type || !dan_shape_equal(&o->shape, &q->shape) || !dan_shape_equal(&d_o->shape, &q->shape))
        return dan_infer_fail(n, e, "o and do must have the type and shape of q");
    if (lse->dtype != q->dtype || !dan_shape_equal(&lse->shape, &nh))
        return dan_infer_fail(n, e, "lse must be attend's second output [N,H]");
    rc = dan_node_parts(g, n, 3, e);
    if (rc) return rc;
    dan_node_part(n, DQ, q->dtype, q->shape);
    dan_node_part(n, DK, k->dtype, k->shape);
    dan_node_part(n, DV, k->dtype, k->shape);
    return DAN_OK;
}

static real dot(const real *x, const real *y, int64_t d)
{
    real sum = 0;
    for (int64_t i = 0; i < d; i++) sum += x[i] * y[i];
    return sum;
}

/* Row n of query head h. */
struct row { const real *q, *o, *d_o; real lse, scale; const int32_t *range; int64_t kv_col, d; };

static struct row row_at(const struct dan_args *a, int64_t n, int64_t h)
{
    int64_t heads = a->attr[DAN_ATTEND_HEADS].i, group = heads / a->attr[DAN_ATTEND_KV_HEADS].i, d = a->in[Q].shape.d[1] / heads;
    return (struct row){
        .q = (const real *)dan_row(&a->in[Q], n) + h * d,
        .o = (const real *)dan_row(&a->in[O], n) + h * d,
        .d_o = (const real *)dan_row(&a->in[DO], n) + h * d,
        .lse = ((const real *)dan_row(&a->in[LSE], n))[h],
        .scale = (real)a->attr[DAN_ATTEND_SCALE].f,
        .range = dan_row(&a->in[RANGE], n),
        .kv_col = h / group * d,
        .d = d,
    };
}

struct pair { real p, ds; };
static struct pair pair_at(const struct dan_args *a, const struct row *r, int64_t j)
{
    const real *k = (const real *)dan_row(&a->in[K], j) + r->kv_col, *v = (const real *)dan_row(&a->in[V], j) + r->kv_col;
    real s = dot(r->q, k, r->d) * r->scale, cap = (real)a->attr[DAN_ATTEND_CAP].f, t = cap > 0 ? (real)tanh(s / cap) : 0;
    real p = (real)exp((cap > 0 ? cap * t : s) - r->lse);
    return (struct pair){.p = p, .ds = p * (dot(r->d_o, v, r->d) - dot(r->d_o, r->o, r->d)) * r->scale * (1 - t * t)};
}

static void grad_q(const struct dan_args *a, int64_t n, int64_t h)
{
    struct row r = row_at(a, n, h);
    real *dq = (real *)dan_row(&a->out[DQ], n) + h * r.d;
    for (int64_t i = 0; i < r.d; i++) dq[i] = 0;
    for (int64_t j = r.range[1]; j < r.range[2]; j++) {
        const real *k = (const real *)dan_row(&a->in[K], j) + r.kv_col;
        struct pair x = pair_at(a, &r, j);
        for (int64_t i = 0; i < r.d; i++) dq[i] += x.ds * k[i];
    }
}

static void grad_kv(const struct dan_args *a, int64_t n, int64_t h)
{
    struct row r = row_at(a, n, h);
    for (int64_t j = r.range[1]; j < r.range[2]; j++) {
        real *dk = (real *)dan_row(&a->out[DK], j) + r.kv_col, *dv = (real *)dan_row(&a->out[DV], j) + r.kv_col;
        struct pair x = pair_at(a, &r, j);
        for (int64_t i = 0; i < r.d; i++) dk[i] += x.ds * r.q[i];
        for (int64_t i = 0; i < r.d; i++) dv[i] += x.p * r.d_o[i];
    }
}

/* dq by rows, dk and dv by kv heads: no two threads add to the same place. */
static void ref(const struct dan_args *a)
{
    int64_t heads = a->attr[DAN_ATTEND_HEADS].i, kv = a->attr[DAN_ATTEND_KV_HEADS].i, group = heads / kv;
    int64_t n_rows = a->in[Q].shape.d[0], s = a->in[K].shape.d[0], d = a->in[Q].shape.d[1] / heads, lo, hi;
    dan_share(a, n_rows, 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++)
        for (int64_t h = 0; h < heads; h++) grad_q(a, n, h);
    dan_share(a, kv, 1, &lo, &hi);
    for (int64_t j = 0; j < s && lo < hi; j++) {
        memset((real *)dan_row(&a->out[DK], j) + lo * d, 0, (size_t)((hi - lo) * d) * sizeof(real));
        memset((real *)dan_row(&a->out[DV], j) + lo * d, 0, (size_t)((hi - lo) * d) * sizeof(real));
    }
    for (int64_t h = lo * group; h < hi * group; h++)
        for (int64_t n = 0; n < n_rows; n++) grad_kv(a, n, h);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = 5 * attend_products(g, n);
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    if (i >= ATTEND_N_CASES) return false;
    const struct attend_case *c = &attend_cases[i];
    struct attend_inputs in = attend_sample_inputs(s, c);
    s->no_grad = true;
    /* o and lse are free: those of attend would make all of dq and dk cancel to zero where a row sees one key */
    struct dan_shape nc = DAN_SHAPE(s->rows, c->heads * c->dim);
    dan_ref range = attend_sample_range(s, c), o = s->real(s, nc, 1, true), lse = s->real(s, DAN_SHAPE(s->rows, c->heads), 1, true);
    s->y = dan_attend_grad(s->b, in.q, in.k, in.v, range, o, lse, s->real(s, nc, 1, true), c->heads, c->kv_heads, 1 / sqrt(c->dim), c->cap);
    return true;
}

DAN_OP(attend_grad) = {
    .name = "attend_grad",
    .doc = "gradient of attend: dq, dk, dv",
    .n_in = 7, .half_in = 0x57, .half_out = 0x7,
    .props = DAN_OP_NO_GRAD | DAN_OP_STRIDED,
    .attrs = {{"heads", 'i'}, {"kv_heads", 'i'}, {"scale", 'f'}, {"cap", 'f'}},
    .infer = infer,
    .ref = ref,
    .cost = cost,
    .sample = sample,
};
