/* Attention over packed rows.  For row n and query head h, which reads kv head h / (H/K):
 *   s_j = scale * q_n . k_j for lo <= j < hi;   o = sum_j softmax(s)_j v_j;   lse = ln sum_j e^(s_j)
 * with cap > 0 of cap tanh(s_j / cap) (Gemma 2).
 * Vaswani et al. 2017, "Attention is all you need"; shared kv heads: Ainslie et al. 2023, "GQA".
 * A row that sees no key gives o = 0, lse = -inf.  Only o is differentiable. */
#include "op/op.h"
#include "op/attend_infer.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int rc = attend_check(g, n, e);
    if (!rc) rc = dan_node_parts(g, n, 2, e);
    if (rc) return rc;
    const struct dan_node *q = dan_in(g, n, 0);
    dan_node_part(n, 0, q->dtype, q->shape);
    dan_node_part(n, 1, q->dtype, DAN_SHAPE(q->shape.d[0], n->attr[DAN_ATTEND_HEADS].i));
    return DAN_OK;
}

static int64_t n_keys(const struct dan_args *a) { return a->in[1].shape.d[a->in[1].shape.n - 2]; }

/* Scores, then one row of a head as f32 and as real. */
static size_t score_bytes(const struct dan_args *a)
{
    size_t d = (size_t)(a->in[0].shape.d[1] / a->attr[DAN_ATTEND_HEADS].i);
    return (((size_t)n_keys(a) + d) * sizeof(double) + d * sizeof(float) + 63) / 64 * 64;
}
static size_t ref_ws(const struct dan_args *a, int nth) { return score_bytes(a) * (size_t)nth; }

/* The d numbers of a kv head in row j of input k; those of a cache become real in tmp. */
static const real *elements(const struct dan_args *a, int k, int64_t j, int64_t kv_head, int64_t d, real *tmp)
{
    const struct dan_tensor *x = &a->in[k];
    float *f = (float *)(tmp + d);
    if (x->shape.n == 3) {
        const struct dan_kv c = dan_kv_of(x, k == 2);
        dan_kv_read(&c, kv_head, j, f, d);
    } else if (x->dtype == DAN_REAL_DTYPE) {
        return (const real *)dan_row(x, j) + kv_head * d;
    } else {
        x->dtype->to_f32((const char *)dan_row(x, j) + kv_head * d * x->dtype->bytes, f, d);
    }
    for (int64_t i = 0; i < d; i++) tmp[i] = f[i];
    return tmp;
}

/* One row of one head: scores [lo,hi) in s. */
static real attend_row(const struct dan_args *a, const real *q, int64_t kv_head, int64_t lo, int64_t hi, real *s, real *o, int64_t d)
{
    real max = -INFINITY, sum = 0, cap = (real)a->attr[DAN_ATTEND_CAP].f;
    for (int64_t i = 0; i < d; i++) o[i] = 0;
    for (int64_t j = lo; j < hi; j++) {
        const real *k = elements(a, 1, j, kv_head, d, s + n_keys(a));
        s[j] = 0;
        for (int64_t i = 0; i < d; i++) s[j] += q[i] * k[i];
        s[j] *= (real)a->attr[DAN_ATTEND_SCALE].f;
        if (cap > 0) s[j] = cap * (real)tanh(s[j] / cap);
        if (s[j] > max) max = s[j];
    }
    for (int64_t j = lo; j < hi; j++) {
        const real *v = elements(a, 2, j, kv_head, d, s + n_keys(a));
        real p = (real)exp(s[j] - max);
        sum += p;
        for (int64_t i = 0; i < d; i++) o[i] += p * v[i];
    }
    for (int64_t i = 0; i < d && hi > lo; i++) o[i] /= sum;
    return hi > lo ? max + (real)log(sum) : -INFINITY;
}

static void ref(const struct dan_args *a)
{
    int64_t heads = a->attr[DAN_ATTEND_HEADS].i, group = heads / a->attr[DAN_ATTEND_KV_HEADS].i, d = a->in[0].shape.d[1] / heads;
    real *s = (real *)((char *)a->ws + score_bytes(a) * (size_t)a->ith);
    int64_t lo, hi;
    dan_share(a, a->in[0].shape.d[0], 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        const int32_t *range = dan_row(&a->in[3], n);
        const real *q = dan_row(&a->in[0], n);
        real *o = dan_row(&a->out[0], n), *lse = dan_row(&a->out[1], n);
        for (int64_t h = 0; h < heads; h++) lse[h] = attend_row(a, q + h * d, h / group, range[1], range[2], s, o + h * d, d);
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    if (dy[1]) {
        dan_poison(b, DAN_EUNSUPPORTED, "lse of attend has no gradient: use only its first output in a loss");
        return;
    }
    if (dan_at(b->g, n.in[1])->dtype != dan_at(b->g, n.in[0])->dtype || dan_at(b->g, n.in[1])->shape.n != 2) {
        dan_poison(b, DAN_EUNSUPPORTED, "keys in a cache have no gradient: train without a cache");
        return;
    }
    dan_ref grad = dan_attend_grad(b, n.in[0], n.in[1], n.in[2], n.in[3], dan_pick(b, y, 0), dan_pick(b, y, 1), dy[0],
                                   n.attr[DAN_ATTEND_HEADS].i, n.attr[DAN_ATTEND_KV_HEADS].i, n.attr[DAN_ATTEND_SCALE].f,
                                   n.attr[DAN_ATTEND_CAP].f);
    for (int i = 0; i < 3; i++) dx[i] = dan_pick(b, grad, i);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = 2 * attend_products(g, n);
    *bytes = dan_cost_bytes(g, n);
}

/* Keys and values of one document in a cache by heads. */
static bool sample_cached(struct dan_sample *s, int i)
{
    static const struct attend_case cases[] = {
        {4, 2, 6, DAN_MASK_CAUSAL, 1 << 20, 0, false, 0}, {2, 1, 7, DAN_MASK_WINDOW, 1 << 20, 9, false, 0},
        {6, 2, 33, DAN_MASK_CAUSAL, 1 << 20, 0, false, 2},
    };
    const struct dan_dtype *const types[] = {&dan_dtype_f32, &dan_dtype_bf16, &dan_dtype_i8};
    enum { S = 256 };
    if (i >= 9 || s->rows > S) return false;
    const struct attend_case *c = &cases[i % 3];
    const struct dan_dtype *t = types[i / 3];
    struct dan_shape shape = dan_kv_shape(t, c->kv_heads, S, c->dim);
    struct attend_inputs in = attend_sample_inputs(s, c);
    int32_t *slot = dan_arena_alloc(s->b->g->arena, sizeof *slot * (size_t)(s->rows + 1));
    for (int64_t r = 0; slot && r < s->rows; r++) slot[r] = (int32_t)r;
    if (!slot) return false;
    dan_ref at = s->values(s, DAN_SHAPE(s->rows), slot, true);
    dan_ref k = dan_kv_write_heads(s->b, dan_state(s->b, "k", t, shape), in.k, at, false);
    dan_ref v = dan_kv_write_heads(s->b, dan_state(s->b, "v", t, shape), in.v, at, true);
    s->no_grad = true;
    s->y = dan_attend_capped(s->b, in.q, k, v, attend_sample_range(s, c), c->heads, c->kv_heads, 1 / sqrt(c->dim), c->cap);
    return true;
}

static bool sample(struct dan_sample *s, int i)
{
    if (i >= 2 * ATTEND_N_CASES) return sample_cached(s, i - 2 * ATTEND_N_CASES);
    const struct attend_case *c = &attend_cases[i / 2];
    struct attend_inputs in = attend_sample_inputs(s, c);
    dan_ref both = dan_attend_capped(s->b, in.q, in.k, in.v, attend_sample_range(s, c), c->heads, c->kv_heads, 1 / sqrt(c->dim), c->cap);
    s->no_grad = i & 1;                                /* lse is checked too, but has no gradient */
    s->y = i & 1 ? both : dan_pick(s->b, both, 0);
    return true;
}

DAN_OP(attend) = {
    .name = "attend",
    .doc = "attention over packed rows; parts: o, log-sum-exp",
    .n_in = 4, .half_in = 0x7, .half_out = 0x1,
    .attrs = {{"heads", 'i'}, {"kv_heads", 'i'}, {"scale", 'f'}, {"cap", 'f'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
