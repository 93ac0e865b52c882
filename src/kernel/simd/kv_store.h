/* A head on its way into a cache that is laid out by heads (core/kv.h); include vec_ISA.h before.  The same numbers as
 * dan_kv_write_row. */
#include "core/kv.h"
#include "kernel/simd/half.h"

/* Bytes of a head's numbers as f32, or as the cache stores them. */
static size_t kv_buffer(int64_t d) { return ((size_t)d + 15) / 16 * 64; }

static bool kv_accepts(const struct dan_tensor *cache)
{
    return dan_f32_or_bf16(cache) || (cache->shape.n == 3 && cache->dtype == &dan_dtype_i8);
}

static float quantise_head(const float *x, int64_t d, int8_t *levels)
{
    vf top = vf_set(0), most = vf_set(127), least = vf_set(-127);
    for (int64_t i = 0; i < d; i += VF) top = vf_max(vf_abs(vf_load_n(x + i, d - i)), top);
    float inv, scale = d <= DAN_KV_FEW ? dan_kv_scale_of_few(x, d, vf_top(top), &inv) : dan_kv_scale(vf_top(top), &inv);
    for (int64_t i = 0; i < d; i += VF)
        vf_store_s8(levels + i, vf_min(most, vf_max(vf_round(vf_mul(vf_load_n(x + i, d - i), vf_set(inv))), least)));
    return scale;
}

/* Token j of head h = x[d]. */
static void kv_store_head(const struct dan_kv *c, int64_t h, int64_t j, const float *x, int64_t d, void *tmp)
{
    if (c->dtype == &dan_dtype_i8) {
        dan_kv_scales(c, h)[j] = quantise_head(x, d, tmp);
    } else if (c->dtype == &dan_dtype_bf16) {
        for (int64_t i = 0; i < d; i += VF) store_row(true, tmp, i, load_row(false, x, i, d - i), d - i);
    } else {
        tmp = (void *)(uintptr_t)x;
    }
    dan_kv_put(c, h, j, tmp, d);
}
