/* kv_write(cache, rope(rows, table), slot): the rotated keys go straight into the cache.  See rope.c and kv_write.c. */
#include "op/op.h"
#include "op/kv_infer.h"
#include "op/rope_infer.h"

enum { CACHE, ROWS, SLOT, TABLE };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *cache = dan_in(g, n, CACHE), *rows = dan_in(g, n, ROWS);
    int rc = rope_check(g, n, rows, dan_in(g, n, TABLE), e);
    if (!rc) rc = kv_check(g, n, e);
    if (rc) return rc;
    if (cache->shape.n == 3 && rows->shape.d[1] != cache->shape.d[0] * n->attr[DAN_ROPE_DIM].i)
        return dan_infer_fail(n, e, "a cache of %lld heads does not fit rows of %lld columns in heads of %lld", (long long)cache->shape.d[0],
                              (long long)rows->shape.d[1], (long long)n->attr[DAN_ROPE_DIM].i);
    return dan_infer_same(g, n, e);
}

/* A head as real, as f32 and as the cache stores it. */
static size_t head_bytes(const struct dan_args *a)
{
    int64_t d = a->attr[DAN_ROPE_DIM].i;
    return kv_head_bytes(d) + ((size_t)d * sizeof(real) + 63) / 64 * 64;
}
static size_t ref_ws(const struct dan_args *a, int nth) { return head_bytes(a) * (size_t)nth; }

static void write_head(const struct dan_args *a, int64_t r, int64_t h, char *ws)
{
    const struct dan_tensor *cache = &a->out[0];
    const int64_t d = a->attr[DAN_ROPE_DIM].i, slot = ((const int32_t *)a->in[SLOT].data)[r];
    const real *x = (const real *)dan_row(&a->in[ROWS], r) + h * d;
    real *y = (real *)(void *)(ws + kv_head_bytes(d));
    for (int64_t i = 0; i < d; i++) y[i] = rope_turned(x, dan_row(&a->in[TABLE], r), dan_cols(&a->in[TABLE]), i, false);
    if (cache->shape.n == 2) {
        kv_store(cache->dtype, y, (char *)dan_row(cache, slot) + h * d * cache->dtype->bytes, d);
        return;
    }
    const struct dan_kv c = dan_kv_of(cache, false);
    kv_store_head(&c, h, slot, y, d, (float *)(void *)ws);
}

/* Heads are shared out, not rows: equal slots then keep their order. */
static void ref(const struct dan_args *a)
{
    const struct dan_tensor *cache = &a->out[0];
    const int32_t *slot = a->in[SLOT].data;
    int64_t lo, hi, n = a->in[ROWS].shape.d[0], size = cache->shape.d[cache->shape.n - 2];
    char *ws = (char *)a->ws + head_bytes(a) * (size_t)a->ith;
    dan_share(a, a->in[ROWS].shape.d[1] / a->attr[DAN_ROPE_DIM].i, 1, &lo, &hi);
    for (int64_t r = 0; r < n; r++)
        for (int64_t h = lo; h < hi && slot[r] >= 0 && slot[r] < size; h++) write_head(a, r, h, ws);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    int64_t count = dan_shape_count(&dan_in(g, n, ROWS)->shape);
    *flops = 3 * (double)count;
    *bytes = (double)dan_dtype_bytes(dan_in(g, n, ROWS)->dtype, count) + (double)dan_dtype_bytes(n->dtype, count);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t dim[] = {8, 6, 64, 10, 10, 7}, heads[] = {3, 1, 2, 2, 2, 3}, turn[] = {8, 6, 64, 4, 10, 6};
    const struct dan_dtype *const by_heads[] = {&dan_dtype_f32, &dan_dtype_bf16};      /* of i8 a last bit may turn a level */
    if (i >= 6) return false;
    s->no_grad = true;
    int64_t c = dim[i] * heads[i];
    dan_ref rows = dan_sample_columns(s, c, i == 1);
    dan_ref cache = i < 4 ? dan_state(s->b, "cache", s->dtype, DAN_SHAPE(12, c))
                          : dan_state(s->b, "cache", by_heads[i - 4], dan_kv_shape(by_heads[i - 4], heads[i], 12, dim[i]));
    int32_t slots[64];
    for (int64_t r = 0; r < 64; r++) slots[r] = (int32_t)(r * 5 % 13) - 1;
    struct dan_shape n = DAN_SHAPE(s->rows);
    dan_ref slot = s->rows <= 64 ? s->values(s, n, slots, true) : s->ints(s, n, 12, true);
    s->y = dan_rope_kv_write(s->b, cache, rows, slot, rope_sample_table(s, turn[i]), dim[i]);
    return true;
}

DAN_OP(rope_kv_write) = {
    .name = "rope_kv_write",
    .doc = "cache[slot[i]] = rope(rows[i]) in place; slot -1 drops the row",
    .n_in = 4,
    .props = DAN_OP_STATE | DAN_OP_NO_GRAD,
    .attrs = {{"dim", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
