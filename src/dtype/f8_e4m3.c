/* OCP 8-bit float E4M3 (OFP8 specification 1.0; torch.float8_e4m3fn): 1 sign, 4 exponent (bias 7), 3 mantissa bits, subnormals in steps of
 * 2^-9, largest 448, no infinity; 0x7f and 0xff are NaN.  Rounds to nearest even; finite values saturate; infinities, which would hide
 * as 448, become NaN. */
#include <math.h>
#include "core/dtype.h"
#include "core/half.h"

static float to_one(uint8_t h)
{
    uint32_t sign = (uint32_t)(h & 0x80) << 24, a = h & 0x7f;
    if (a == 0x7f) return dan_bits_float(sign | 0x7fc00000u);
    if (a < 8) return dan_bits_float(sign | dan_float_bits((float)a * 0x1p-9f));
    return dan_bits_float(sign | (a + (120u << 3)) << 20);
}

static uint8_t from_one(float x)
{
    uint32_t u = dan_float_bits(x), sign = u >> 24 & 0x80, a = u & 0x7fffffffu, h;
    if (a >= 0x7f800000u) h = 0x7f;
    else if (a >= 0x43e80000u) h = 0x7e;       /* >= 464 would round above 448 */
    else if (a < 0x3c800000u)                  /* < 2^-6: the ulp of 2^14 is 2^-9, so the addition rounds */
        h = dan_float_bits(dan_bits_float(a) + 0x1p14f) - 0x46800000u;
    else h = (a + 0x7ffff + (a >> 20 & 1) - (120u << 23)) >> 20;
    return (uint8_t)(sign | (h > 0x7e && a < 0x7f800000u ? 0x7e : h));
}

static void to_f32(const void *src, float *dst, int64_t n)
{
    const uint8_t *s = src;
    for (int64_t i = 0; i < n; i++) dst[i] = to_one(s[i]);
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    uint8_t *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = from_one(src[i]);
}

const struct dan_dtype dan_dtype_f8_e4m3 = {
    .name = "f8_e4m3", .block = 1, .bytes = 1, .gguf_id = -1, .safetensors = "F8_E4M3", .to_f32 = to_f32, .from_f32 = from_f32, .max_rmse = 0.03f,
};
