/* 16-bit floats <-> float in portable C, rounding to nearest even; shared by dtypes and kernels. */
#ifndef DAN_CORE_HALF_H
#define DAN_CORE_HALF_H
#include <stdint.h>
#include <string.h>

static inline uint32_t dan_float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float dan_bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* bf16 is the upper half of a float. */
static inline float dan_bf16_to_f32(uint16_t h) { return dan_bits_float((uint32_t)h << 16); }

static inline uint16_t dan_f32_to_bf16(float x)
{
    uint32_t u = dan_float_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);   /* rounding could make it infinite */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. */
static inline float dan_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 0) return dan_bits_float(sign | dan_float_bits((float)mantissa * 0x1p-24f));
    if (exponent == 31) return dan_bits_float(sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0));
    return dan_bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t dan_f32_to_f16(float x)
{
    uint32_t u = dan_float_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu, h;
    if (a > 0x7f800000u) h = 0x7e00 | (a >> 13 & 0x3ff);
    else if (a >= 0x477ff000u) h = 0x7c00;                                    /* >= 65520 rounds to infinity */
    else if (a < 0x38800000u)       /* < 2^-14: the ulp of 0.5f is the smallest f16, so the addition rounds */
        h = dan_float_bits(dan_bits_float(a) + 0.5f) - 0x3f000000u;
    else h = (a + 0xfff + (a >> 13 & 1) - (112u << 23)) >> 13;
    return (uint16_t)(sign | h);
}

#endif
