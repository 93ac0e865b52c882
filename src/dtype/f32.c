#include <string.h>
#include "core/dtype.h"

static void to_f32(const void *src, float *dst, int64_t n)
{
    if (n > 0) memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    if (n > 0) memcpy(dst, src, (size_t)n * sizeof *src);
}

/* All dots sum in double: they are what faster kernels are compared with. */
static float dot(const void *w, const void *x, int64_t n)
{
    const float *a = w, *b = x;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return (float)sum;
}

const struct dan_dtype dan_dtype_f32 = {
    .name = "f32", .block = 1, .bytes = 4, .gguf_id = 0, .safetensors = "F32", .dot_with = &dan_dtype_f32,
    .to_f32 = to_f32, .from_f32 = from_f32, .dot = dot, .max_rmse = 0,
};
