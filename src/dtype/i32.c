/* Ids, positions, lengths; exact through float up to 2^24 only. */
#include <math.h>
#include "core/dtype.h"

static void to_f32(const void *src, float *dst, int64_t n)
{
    const int32_t *s = src;
    for (int64_t i = 0; i < n; i++) dst[i] = (float)s[i];
}

/* Rounds, and saturates where the cast would be undefined; NaN becomes 0. */
static int32_t from_one(float x)
{
    if (isnan(x)) return 0;
    float r = roundf(x);
    return r >= 0x1p31f ? INT32_MAX : r <= -0x1p31f ? INT32_MIN : (int32_t)r;
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    int32_t *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = from_one(src[i]);
}

const struct dan_dtype dan_dtype_i32 = {
    .name = "i32", .block = 1, .bytes = 4, .gguf_id = 26, .safetensors = "I32",
    .to_f32 = to_f32, .from_f32 = from_f32, .max_rmse = 0.3f,
};
