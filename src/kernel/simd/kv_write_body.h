/* kv_write of f32 rows into an f32 or bf16 cache, or one by heads; include vec_ISA.h before.  Columns or heads are shared out,
 * not rows: equal slots then keep their order. */
#include "op/attrs.h"
#include "kernel/simd/kv_store.h"

static bool accepts(const struct dan_args *a) { return a->in[1].dtype == &dan_dtype_f32 && kv_accepts(&a->out[0]); }

static size_t workspace(const struct dan_args *a, int nth)
{
    return a->out[0].shape.n == 3 ? kv_buffer(a->in[1].shape.d[1] / a->out[0].shape.d[0]) * (size_t)nth : 0;
}

ALWAYS void write_row(bool half, const float *x, void *y, int64_t lo, int64_t hi)
{
    for (int64_t c = lo; c < hi; c += VF) store_row(half, y, c, load_row(false, x, c, hi - c), hi - c);
}

static void run_heads(const struct dan_args *a)
{
    const struct dan_kv c = dan_kv_of(&a->out[0], a->attr[DAN_KV_VALUES].i);
    const int32_t *slot = a->in[2].data;
    const int64_t d = a->in[1].shape.d[1] / c.heads;
    int64_t lo, hi, n = a->in[1].shape.d[0];
    dan_share(a, c.heads, 1, &lo, &hi);
    for (int64_t h = lo; h < hi; h++)
        for (int64_t i = 0; i < n; i++)
            if (slot[i] >= 0 && slot[i] < c.rows)
                kv_store_head(&c, h, slot[i], (const float *)dan_row(&a->in[1], i) + h * d, d, (char *)a->ws + kv_buffer(d) * (size_t)a->ith);
}

static void run(const struct dan_args *a)
{
    const int32_t *slot = a->in[2].data;
    const struct dan_tensor *cache = &a->out[0];
    int64_t lo, hi, n = a->in[1].shape.d[0];
    if (cache->shape.n == 3) {
        run_heads(a);
        return;
    }
    dan_share(a, cache->shape.d[1], 64, &lo, &hi);
    for (int64_t i = 0; i < n; i++) {
        if (slot[i] < 0 || slot[i] >= cache->shape.d[0]) continue;
        if (dan_is_bf16(cache)) write_row(true, dan_row(&a->in[1], i), dan_row(cache, slot[i]), lo, hi);
        else write_row(false, dan_row(&a->in[1], i), dan_row(cache, slot[i]), lo, hi);
    }
}
