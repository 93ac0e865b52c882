/* A group of 32 values to int8 (core/rounded.h) on vectors vf; round_avx512.h has the same for AVX-512.  Include math_ISA.h before. */
#ifndef DAN_KERNEL_ROUND_PLAIN_H
#define DAN_KERNEL_ROUND_PLAIN_H
#include "core/rounded.h"
#include "kernel/simd/half.h"

/* 32 values as they lie, f32 or bf16; sum: of the first and of the last 16 levels; the scale. */
static inline float round_values(const char *x, bool half, char *to, int32_t sum[2])
{
    float q[DAN_ROUNDED_GROUP], max;
    vf top = vf_set(0.f);
    for (int k = 0; k < DAN_ROUNDED_GROUP; k += VF) top = vf_max(vf_abs(load_row(half, x, k, VF)), top);
    max = vf_top(top);
    vf inverse = vf_set(max > 1e-35f ? 127.f / max : 0.f);
    for (int k = 0; k < DAN_ROUNDED_GROUP; k += VF) vf_store(q + k, vf_round(vf_mul(load_row(half, x, k, VF), inverse)));
    sum[0] = sum[1] = 0;
    for (int k = 0; k < DAN_ROUNDED_GROUP; k++) {
        int32_t whole = q[k] >= -127.f && q[k] <= 127.f ? (int32_t)q[k] : 0;           /* infinities and what is no number */
        to[k] = (char)whole;
        sum[k / 16] += whole;
    }
    return max / 127.f;
}

#endif
