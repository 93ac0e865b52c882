/* IEEE 754 binary16: up to 65504, 11 bits of precision. */
#include "core/dtype.h"
#include "core/half.h"

static void to_f32(const void *src, float *dst, int64_t n)
{
    const uint16_t *s = src;
    for (int64_t i = 0; i < n; i++) dst[i] = dan_f16_to_f32(s[i]);
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    uint16_t *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = dan_f32_to_f16(src[i]);
}

static float dot(const void *w, const void *x, int64_t n)
{
    const uint16_t *a = w;
    const float *b = x;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)dan_f16_to_f32(a[i]) * b[i];
    return (float)sum;
}

const struct dan_dtype dan_dtype_f16 = {
    .name = "f16", .block = 1, .bytes = 2, .gguf_id = 1, .safetensors = "F16", .dot_with = &dan_dtype_f32,
    .to_f32 = to_f32, .from_f32 = from_f32, .dot = dot, .max_rmse = 0.00025f,
};
