/* What the block formats of ggml share (ggml-common.h, ggml-quants.c describe them).  Scales are f16 at even addresses at best:
 * fields are bytes or uint16_t. */
#ifndef DAN_DTYPE_BLOCKS_H
#define DAN_DTYPE_BLOCKS_H
#include <math.h>
#include <stdbool.h>
#include "core/dtype.h"
#include "core/half.h"

/* floor(x) within 0 .. most; NaN is 0. */
static inline int dan_level(float x, int most)
{
    x = x > 0 ? x : 0;
    return (int)(x < (float)most ? x : (float)most);
}

/* The scale, or NaN when any of the n values is not finite: what is broken must not hide behind a small number. */
static inline float dan_scale_of(float d, const float *x, int n)
{
    uint32_t most = 0;                         /* of the bits without sign: integers, so that compilers use vectors */
    for (int i = 0; i < n; i++) {
        uint32_t u = dan_float_bits(x[i]) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    return most >= 0x7f800000u ? NAN : d;
}

/* Level of element i of 32 where a byte holds elements i and i + 16. */
static inline void dan_put_half(uint8_t *q, int i, int level)
{
    uint8_t *at = q + i % 16;
    *at = (uint8_t)(i < 16 ? (*at & 0xf0) | (level & 15) : (*at & 15) | (level & 15) << 4);
}

/* Its fifth bit, where bit i of 4 bytes is that of element i. */
static inline void dan_put_fifth(uint8_t *high, int i, int level)
{
    high[i / 8] = (uint8_t)((high[i / 8] & ~(1 << i % 8)) | (level >> 4 & 1) << i % 8);
}

/* Levels of all 32 at once: their halves, their fifth bits. */
static inline void dan_fill_halves(uint8_t *q, const uint8_t *level)
{
    for (int i = 0; i < 16; i++) q[i] = (uint8_t)((level[i] & 15) | level[i + 16] << 4);
}

static inline void dan_fill_fifths(uint8_t *high, const uint8_t *level)
{
    for (int i = 0; i < 32; i++) dan_put_fifth(high, i, level[i]);
}

/* Level of element i from its half and its fifth bit. */
static inline int dan_half(const uint8_t *q, int i) { return q[i % 16] >> i / 16 * 4 & 15; }
static inline int dan_fifth(const uint8_t *high, int i) { return (high[i / 8] >> i % 8 & 1) << 4; }

/* The value of largest magnitude, with its sign; the first of equals. */
static inline float dan_largest(const float *x, int n)
{
    int32_t most = 0;
    for (int i = 0; i < n; i++) {
        int32_t u = (int32_t)(dan_float_bits(x[i]) & 0x7fffffffu);
        most = u > most ? u : most;
    }
    for (int i = 0; i < n; i++)
        if (most && (int32_t)(dan_float_bits(x[i]) & 0x7fffffffu) == most) return x[i];
    return 0;
}

static inline void dan_range(const float *x, int n, float *min, float *max)
{
    *min = *max = x[0];
    for (int i = 1; i < n; i++) {
        if (x[i] < *min) *min = x[i];
        if (x[i] > *max) *max = x[i];
    }
}

/* 6-bit scale and minimum j of 8, packed in 12 bytes: Q4_K and Q5_K. */
static inline void dan_k_scale(const uint8_t *s, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
        *min = s[j + 4] >> 4 | (s[j] >> 6 << 4);
    }
}

#endif
