/* Shapes that attend and attend_grad share, and their common test inputs. */
#ifndef DAN_OP_ATTEND_INFER_H
#define DAN_OP_ATTEND_INFER_H
#include "core/kv.h"
#include "op/node.h"

/* k and v have q's type, or come from a cache: rows in a plain format such as bf16, or by heads (core/kv.h). */
static inline bool attend_types(const struct dan_node *q, const struct dan_node *k, const struct dan_node *v)
{
    if (!dan_is_float(q->dtype) || k->dtype != v->dtype) return false;
    if (k->shape.n == 3) return dan_kv_takes(k->dtype);
    if (k->dtype == &dan_dtype_i8) return false;
    return k->dtype == q->dtype || (!dan_is_float(k->dtype) && k->dtype->block == 1 && k->dtype->to_f32);
}

/* k fits K heads of d dims. */
static inline bool attend_fits(const struct dan_node *k, int64_t kv, int64_t d)
{
    if (k->shape.n == 2) return k->shape.d[1] == d * kv;
    struct dan_shape want = dan_kv_shape(k->dtype, kv, k->shape.d[1], d);
    return dan_shape_equal(&want, &k->shape);
}

/* q [N,H*D], k and v [S,K*D] or caches [K,S,E], range i32 [N,3]; K divides H. */
static inline int attend_check(const struct dan_graph *g, const struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *q = dan_in(g, n, 0), *k = dan_in(g, n, 1), *v = dan_in(g, n, 2), *range = dan_in(g, n, 3);
    int64_t heads = n->attr[DAN_ATTEND_HEADS].i, kv = n->attr[DAN_ATTEND_KV_HEADS].i;
    if (q->shape.n != 2 || k->shape.n < 2 || k->shape.n > 3 || !dan_shape_equal(&k->shape, &v->shape))
        return dan_infer_fail(n, e, "q must be [N,H*D], k and v [S,K*D] or caches [K,S,E]");
    if (!attend_types(q, k, v))
        return dan_infer_fail(n, e, "q, k and v must all be f32 or all f64, or k and v a cache in bf16 or f16, or i8 by heads");
    if (heads <= 0 || kv <= 0 || heads % kv)
        return dan_infer_fail(n, e, "%lld heads cannot share %lld kv heads: it must divide them", (long long)heads, (long long)kv);
    if (q->shape.d[1] % heads || !attend_fits(k, kv, q->shape.d[1] / heads))
        return dan_infer_fail(n, e, "q has %lld columns for %lld heads and k %lld for %lld: head dims must agree", (long long)q->shape.d[1],
                              (long long)heads, (long long)k->shape.d[k->shape.n - 1], (long long)kv);
    if (range->dtype != &dan_dtype_i32 || range->shape.n != 2 || range->shape.d[0] != q->shape.d[0] || range->shape.d[1] != 3)
        return dan_infer_fail(n, e, "range must be i32 [N,3] = (base, lo, hi) per row: use attend_range");
    return DAN_OK;
}

/* 2 products of N x S x D per head; half of it where rows see the past only, which the shapes do not tell. */
static inline double attend_products(const struct dan_graph *g, const struct dan_node *n)
{
    const struct dan_shape *q = &dan_in(g, n, 0)->shape, *k = &dan_in(g, n, 1)->shape;
    return 2.0 * (double)q->d[0] * (double)q->d[1] * (double)k->d[k->n - 2];
}

struct attend_case { int heads, kv_heads, dim; enum dan_mask mask; int segment, window; bool slices; double cap; };

static const struct attend_case attend_cases[] = {
    {2, 2, 8, DAN_MASK_CAUSAL, 1 << 20, 0, false, 0},     /* one document */
    {4, 2, 6, DAN_MASK_CAUSAL, 5, 0, true, 0},            /* documents of 5 rows, columns of one buffer, grouped heads */
    {3, 1, 64, DAN_MASK_WINDOW, 11, 3, true, 0},
    {2, 1, 7, DAN_MASK_FULL, 7, 0, false, 0},
    {2, 2, 32, DAN_MASK_CAUSAL, 150, 0, true, 0},         /* more than two blocks of keys when N allows */
    {1, 1, 16, DAN_MASK_WINDOW, 1 << 20, 40, false, 0},
    {4, 2, 18, DAN_MASK_WINDOW, 150, 70, true, 1.5},   /* capped scores */
};
enum { ATTEND_N_CASES = sizeof attend_cases / sizeof attend_cases[0] };

/* Ranges of packed documents; every seventh row sees nothing. */
static inline dan_ref attend_sample_range(struct dan_sample *s, const struct attend_case *c)
{
    int64_t n = s->rows;
    int32_t *r = dan_arena_alloc(s->b->g->arena, sizeof *r * 3 * (size_t)(n + 1));
    for (int64_t i = 0; r && i < n; i++) {
        int64_t start = i / c->segment * c->segment, stop = start + c->segment < n ? start + c->segment : n;
        int64_t lo = c->mask == DAN_MASK_WINDOW && i + 1 - c->window > start ? i + 1 - c->window : start;
        int64_t hi = c->mask == DAN_MASK_FULL ? stop : i + 1;
        r[3 * i] = (int32_t)start;
        r[3 * i + 1] = (int32_t)lo;
        r[3 * i + 2] = (int32_t)(i % 7 == 6 ? lo : hi);
    }
    return r ? s->values(s, DAN_SHAPE(n, 3), r, true) : dan_poison(s->b, DAN_ENOMEM, "out of memory for a test case: free some");
}

struct attend_inputs { dan_ref q, k, v; };
static inline struct attend_inputs attend_sample_inputs(struct dan_sample *s, const struct attend_case *c)
{
    int64_t nq = c->heads * c->dim, nk = c->kv_heads * c->dim;
    struct attend_inputs in;
    if (c->slices) {
        dan_ref qkv = s->real(s, DAN_SHAPE(s->rows, nq + 2 * nk), 1, true);
        in.q = dan_slice(s->b, qkv, 1, 0, nq);
        in.k = dan_slice(s->b, qkv, 1, nq, nq + nk);
        in.v = dan_slice(s->b, qkv, 1, nq + nk, nq + 2 * nk);
    } else {
        in.q = s->real(s, DAN_SHAPE(s->rows, nq), 1, true);
        in.k = s->real(s, DAN_SHAPE(s->rows, nk), 1, true);
        in.v = s->real(s, DAN_SHAPE(s->rows, nk), 1, true);
    }
    return in;
}

#endif
