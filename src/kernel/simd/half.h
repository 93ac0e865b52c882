/* Rows that are f32 or, half, stored as bf16.  `half` is a constant where these are inlined: the loops have no
 * branch.  Include vec_ISA.h before. */
#ifndef DAN_KERNEL_HALF_H
#define DAN_KERNEL_HALF_H
#include "core/args.h"

#define ALWAYS static inline __attribute__((always_inline))

static inline vf load_tail(const uint16_t *p, int64_t n)
{
    uint16_t t[VF] = {0};
    for (int64_t i = 0; i < n; i++) t[i] = p[i];
    return vf_load_bf16(t);
}

static inline void store_tail(uint16_t *p, vf x, int64_t n)
{
    uint16_t t[VF];
    vf_store_bf16(t, x);
    for (int64_t i = 0; i < n; i++) p[i] = t[i];
}

/* Elements i .. of p, of which n are left, then 0. */
ALWAYS vf load_row(bool half, const void *p, int64_t i, int64_t n)
{
    if (!half) return vf_load_n((const float *)p + i, n);
    return n >= VF ? vf_load_bf16((const uint16_t *)p + i) : load_tail((const uint16_t *)p + i, n);
}

ALWAYS void store_row(bool half, void *p, int64_t i, vf x, int64_t n)
{
    if (!half) vf_store_n((float *)p + i, x, n);
    else if (n >= VF) vf_store_bf16((uint16_t *)p + i, x);
    else store_tail((uint16_t *)p + i, x, n);
}

#endif
