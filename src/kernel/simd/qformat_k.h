/* What q4_k and q5_k share. */
#ifndef DAN_KERNEL_QFORMAT_K_H
#define DAN_KERNEL_QFORMAT_K_H
#include "kernel/simd/qformat.h"

/* 32 bytes hold the low halves of one group, the high ones of the next. */
static inline void q_levels_of_pair(const uint8_t *q, int g, uint8_t *to)
{
    q += g / 2 * 32;
    if (g % 2)
        for (int i = 0; i < GROUP; i++) to[i] = q[i] >> 4;
    else
        for (int i = 0; i < GROUP; i++) to[i] = q[i] & 15;
}

static inline void q_scales_six(const uint8_t *const *b, uint8_t *to)
{
    for (int n = 0; n < NR; n++)
        for (int i = 0; i < 4; i++) memcpy(to + i * 4 * NR + n * 4, b[n] + 4 * i, 4);
}

#endif
