/* kv_write of f32 rows into an f32 or bf16 cache; include vec_ISA.h before.  Columns are shared out, not rows: equal
 * slots then keep their order. */
#include "kernel/simd/half.h"

static bool accepts(const struct dan_args *a) { return a->in[1].dtype == &dan_dtype_f32 && dan_f32_or_bf16(&a->out[0]); }

ALWAYS void write_row(bool half, const float *x, void *y, int64_t lo, int64_t hi)
{
    for (int64_t c = lo; c < hi; c += VF) store_row(half, y, c, load_row(false, x, c, hi - c), hi - c);
}

static void run(const struct dan_args *a)
{
    const int32_t *slot = a->in[2].data;
    const struct dan_tensor *cache = &a->out[0];
    int64_t lo, hi, n = a->in[1].shape.d[0];
    dan_share(a, cache->shape.d[1], 64, &lo, &hi);
    for (int64_t i = 0; i < n; i++) {
        if (slot[i] < 0 || slot[i] >= cache->shape.d[0]) continue;
        if (dan_is_bf16(cache)) write_row(true, dan_row(&a->in[1], i), dan_row(cache, slot[i]), lo, hi);
        else write_row(false, dan_row(&a->in[1], i), dan_row(cache, slot[i]), lo, hi);
    }
}
