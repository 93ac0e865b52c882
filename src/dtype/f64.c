#include "core/dtype.h"

static void to_f32(const void *src, float *dst, int64_t n)
{
    const double *s = src;
    for (int64_t i = 0; i < n; i++) dst[i] = (float)s[i];
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    double *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = src[i];
}

static float dot(const void *w, const void *x, int64_t n)
{
    const double *a = w, *b = x;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return (float)sum;
}

const struct dan_dtype dan_dtype_f64 = {
    .name = "f64", .block = 1, .bytes = 8, .gguf_id = 28, .safetensors = "F64", .dot_with = &dan_dtype_f64,
    .to_f32 = to_f32, .from_f32 = from_f32, .dot = dot, .max_rmse = 0,
};
