/* cache[slot[i]] = rows[i], in place; slot < 0 drops the row.  The output is the cache's new version (R4):
 * whoever reads the output reads after the write.  Among equal slots the last row wins.  A cache in another
 * plain format (bf16, f16) is converted on the way in. */
#include "op/op.h"
#include "op/node.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *cache = dan_in(g, n, 0), *rows = dan_in(g, n, 1), *slot = dan_in(g, n, 2);
    if (cache->shape.n != 2 || rows->shape.n != 2 || rows->shape.d[1] != cache->shape.d[1])
        return dan_infer_fail(n, e, "cache must be [S,C] and rows [N,C] with the same C");
    if (!dan_is_float(rows->dtype)) return dan_infer_fail(n, e, "rows must be f32 or f64, not '%s'", rows->dtype->name);
    if (cache->dtype != rows->dtype && (cache->dtype->block != 1 || !cache->dtype->from_f32))
        return dan_infer_fail(n, e, "cache in '%s' cannot be written row by row: use f32, bf16 or f16", cache->dtype->name);
    if (slot->dtype != &dan_dtype_i32 || slot->shape.n != 1 || slot->shape.d[0] != rows->shape.d[0])
        return dan_infer_fail(n, e, "slot must be i32 [N], one cache row a row");
    return dan_infer_same(g, n, e);
}

static void store(const struct dan_dtype *t, const real *x, char *dst, int64_t n)
{
    if (t == DAN_REAL_DTYPE) {
        memcpy(dst, x, (size_t)n * sizeof *x);
        return;
    }
    if (sizeof(real) == sizeof(float)) {
        t->from_f32((const float *)(const void *)x, dst, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float f = (float)x[i];
        t->from_f32(&f, dst + i * t->bytes, 1);
    }
}

/* Columns are shared out, not rows: equal slots then keep their order. */
static void ref(const struct dan_args *a)
{
    const int32_t *slot = a->in[2].data;
    const struct dan_tensor *cache = &a->out[0];
    int64_t lo, hi, n = a->in[1].shape.d[0], size = cache->shape.d[0];
    dan_share(a, cache->shape.d[1], 16, &lo, &hi);
    for (int64_t i = 0; i < n && lo < hi; i++) {
        if (slot[i] < 0 || slot[i] >= size) continue;
        store(cache->dtype, (const real *)dan_row(&a->in[1], i) + lo, (char *)dan_row(cache, slot[i]) + lo * cache->dtype->bytes, hi - lo);
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_node *rows = dan_in(g, n, 1);
    *flops = 0;
    *bytes = 2.0 * (double)dan_dtype_bytes(rows->dtype, dan_shape_count(&rows->shape));
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {33, 8, 1};
    if (i >= 3) return false;
    s->no_grad = true;
    dan_ref cache = dan_state(s->b, "cache", s->dtype, DAN_SHAPE(12, c[i]));
    dan_ref rows = dan_sample_columns(s, c[i], i == 1);
    int32_t slots[64];
    for (int64_t r = 0; r < 64; r++) slots[r] = (int32_t)(r * 5 % 13) - 1;
    struct dan_shape n = DAN_SHAPE(s->rows);
    s->y = dan_kv_write(s->b, cache, rows, s->rows <= 64 ? s->values(s, n, slots, true) : s->ints(s, n, 12, true));
    return true;
}

DAN_OP(kv_write) = {
    .name = "kv_write",
    .doc = "cache[slot[i]] = rows[i] in place; slot -1 drops the row",
    .n_in = 3,
    .props = DAN_OP_STATE | DAN_OP_NO_GRAD,
    .infer = infer,
    .ref = ref,
    .cost = cost,
    .sample = sample,
};
