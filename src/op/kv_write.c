/* cache[slot[i]] = rows[i], in place; slot < 0 drops the row.  The output is the cache's new version (R4):
 * whoever reads the output reads after the write.  Among equal slots the last row wins.  A cache in another
 * plain format (bf16, f16) is converted on the way in; one that is laid out by heads (core/kv.h) may also be i8, with a scale for
 * every token and head. */
#include "op/op.h"
#include "op/kv_infer.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int rc = kv_check(g, n, e);
    return rc ? rc : dan_infer_same(g, n, e);
}

static size_t ref_ws(const struct dan_args *a, int nth)
{
    return a->out[0].shape.n == 3 ? kv_head_bytes(a->in[1].shape.d[1]) * (size_t)nth : 0;
}

/* Columns or heads are shared out, not rows: equal slots then keep their order. */
static void ref_heads(const struct dan_args *a)
{
    const struct dan_kv c = dan_kv_of(&a->out[0], a->attr[DAN_KV_VALUES].i);
    const int32_t *slot = a->in[2].data;
    const int64_t d = a->in[1].shape.d[1] / c.heads;
    float *tmp = (float *)(void *)((char *)a->ws + kv_head_bytes(a->in[1].shape.d[1]) * (size_t)a->ith);
    int64_t lo, hi;
    dan_share(a, c.heads, 1, &lo, &hi);
    for (int64_t i = 0; i < a->in[1].shape.d[0]; i++)
        for (int64_t h = lo; h < hi && slot[i] >= 0 && slot[i] < c.rows; h++)
            kv_store_head(&c, h, slot[i], (const real *)dan_row(&a->in[1], i) + h * d, d, tmp);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *cache = &a->out[0];
    const int32_t *slot = a->in[2].data;
    int64_t lo, hi, n = a->in[1].shape.d[0], size = cache->shape.d[0];
    if (cache->shape.n == 3) {
        ref_heads(a);
        return;
    }
    dan_share(a, cache->shape.d[1], 16, &lo, &hi);
    for (int64_t i = 0; i < n && lo < hi; i++) {
        if (slot[i] < 0 || slot[i] >= size) continue;
        kv_store(cache->dtype, (const real *)dan_row(&a->in[1], i) + lo, (char *)dan_row(cache, slot[i]) + lo * cache->dtype->bytes, hi - lo);
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    const struct dan_node *rows = dan_in(g, n, 1);
    *flops = 0;
    *bytes = 2.0 * (double)dan_dtype_bytes(rows->dtype, dan_shape_count(&rows->shape));
}

/* Caches by heads are f32 or smaller whatever the rows are. */
static dan_ref sample_cache(struct dan_sample *s, int i, int64_t c)
{
    const struct dan_dtype *const heads[] = {&dan_dtype_f32, &dan_dtype_bf16, &dan_dtype_i8};
    if (i < 3) return dan_state(s->b, "cache", s->dtype, DAN_SHAPE(12, c));
    return dan_state(s->b, "cache", heads[(i - 3) % 3], dan_kv_shape(heads[(i - 3) % 3], 3, 12, c / 3));
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t c[] = {33, 8, 1, 24, 21, 27, 9, 24, 210};
    if (i >= 9) return false;
    s->no_grad = true;
    dan_ref cache = sample_cache(s, i, c[i]), rows = dan_sample_columns(s, c[i], i == 1 || i == 7);
    int32_t slots[64];
    for (int64_t r = 0; r < 64; r++) slots[r] = (int32_t)(r * 5 % 13) - 1;
    struct dan_shape n = DAN_SHAPE(s->rows);
    dan_ref slot = s->rows <= 64 ? s->values(s, n, slots, true) : s->ints(s, n, 12, true);
    s->y = i < 3 ? dan_kv_write(s->b, cache, rows, slot) : dan_kv_write_heads(s->b, cache, rows, slot, i >= 6);
    return true;
}

DAN_OP(kv_write) = {
    .name = "kv_write",
    .doc = "cache[slot[i]] = rows[i] in place; slot -1 drops the row",
    .n_in = 3,
    .props = DAN_OP_STATE | DAN_OP_NO_GRAD,
    .attrs = {{"values", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
