/* What the block formats of ggml share (ggml-common.h, ggml-quants.c describe them).  Scales are f16 at even addresses at best:
 * fields are bytes or uint16_t. */
#ifndef DAN_DTYPE_BLOCKS_H
#define DAN_DTYPE_BLOCKS_H
#include <math.h>
#include "core/dtype.h"
#include "core/half.h"

/* floor(x) within 0 .. most; NaN is 0. */
static inline int dan_level(float x, int most)
{
    if (!(x > 0)) return 0;
    return x >= (float)most ? most : (int)x;
}

/* The scale, or NaN when any of the n values is not finite: what is broken must not hide behind a small number. */
static inline float dan_scale_of(float d, const float *x, int n)
{
    float all = 0;
    for (int i = 0; i < n; i++) all += 0 * x[i];
    return isnan(all) ? NAN : d;
}

/* The value of largest magnitude, with its sign; the first of equals. */
static inline float dan_largest(const float *x, int n)
{
    float max = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(max)) max = x[i];
    return max;
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
