/* A group of 32 values to int8 (core/rounded.h) by AVX-512: what kernels that round and those that multiply share, so that the bits are the same. */
#ifndef DAN_KERNEL_ROUND_AVX512_H
#define DAN_KERNEL_ROUND_AVX512_H
#include "core/rounded.h"
#include "kernel/simd/half.h"

/* 32 levels to `to`, as integers in q; the scale. */
ALWAYS float round_levels(__m512 x0, __m512 x1, char *to, __m512i q[2])
{
    float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x0), _mm512_abs_ps(x1)));
    __m512 inverse = _mm512_set1_ps(top > 1e-35f ? 127.f / top : 0.f);
    __m128i lo = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse)));
    __m128i hi = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse)));
    _mm_storeu_si128((__m128i *)to, lo);
    _mm_storeu_si128((__m128i *)(to + 16), hi);
    q[0] = _mm512_cvtepi8_epi32(lo);           /* again, as stored: what is no number became INT_MIN before, and is 0 now */
    q[1] = _mm512_cvtepi8_epi32(hi);
    return top / 127.f;
}

/* 32 values as they lie, f32 or bf16; sum: of the first and of the last 16 levels. */
ALWAYS float round_values(const char *x, bool half, char *to, int32_t sum[2])
{
    __m512i q[2];
    float scale = half ? round_levels(vf_load_bf16(x), vf_load_bf16(x + 32), to, q)
                       : round_levels(vf_load((const float *)x), vf_load((const float *)x + 16), to, q);
    sum[0] = _mm512_reduce_add_epi32(q[0]);
    sum[1] = _mm512_reduce_add_epi32(q[1]);
    return scale;
}

#endif
