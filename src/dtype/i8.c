/* Signed bytes. */
#include <math.h>
#include "core/dtype.h"

static void to_f32(const void *src, float *dst, int64_t n)
{
    const int8_t *s = src;
    for (int64_t i = 0; i < n; i++) dst[i] = (float)s[i];
}

/* Rounds, and saturates where the cast would be undefined; NaN becomes 0. */
static int8_t from_one(float x)
{
    if (isnan(x)) return 0;
    float r = roundf(x);
    return r >= 0x1p7f ? INT8_MAX : r <= -0x1p7f ? INT8_MIN : (int8_t)r;
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    int8_t *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = from_one(src[i]);
}

const struct dan_dtype dan_dtype_i8 = {
    .name = "i8", .block = 1, .bytes = 1, .gguf_id = 24, .safetensors = "I8",
    .to_f32 = to_f32, .from_f32 = from_f32, .max_rmse = 0.3f,
};
