/* The products of qgemm_body.h in plain C: the integers of every ISA; the f32 sums are not fused, so that their last bits differ. */
#ifndef DAN_KERNEL_QGEMM_SCALAR_H
#define DAN_KERNEL_QGEMM_SCALAR_H
#include <stdbool.h>
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/qgemm_plain.h"
#include "kernel/simd/store_half.h"

enum { MR = 4 };

static void add_rows(int rows, const char *x, const char *loose, float *sum)
{
    const float *scale = (const float *)(loose + LEVELS), *min = scale + NR * (1 + HALVES);
    for (int i = 0; i < rows; i++, x += X_GROUP, sum += NR) {
        const float *tail = (const float *)(x + GROUP);
        for (int h = 0; h <= HALVES; h++) {
            int32_t t[NR];
            for (int n = 0; n < NR; n++) t[n] = start_of(x, h);
            for (int j = HALVES ? 4 * h : 0; j < (HALVES ? 4 * h + 4 : 8); j++) {
                const uint8_t *w = (const uint8_t *)loose + 64 * j;
                const int8_t *q = (const int8_t *)x + 4 * j;
                for (int n = 0; n < NR; n++) t[n] += w[4 * n] * q[0] + w[4 * n + 1] * q[1] + w[4 * n + 2] * q[2] + w[4 * n + 3] * q[3];
            }
            for (int n = 0; n < NR; n++) {
                sum[n] += (float)t[n] * (scale[NR * h + n] * tail[0]);
                if (MINS) sum[n] += min[NR * h + n] * tail[1 + h];
            }
        }
    }
}

#endif
