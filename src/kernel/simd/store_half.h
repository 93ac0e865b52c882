/* Where the CPU has no instruction for it: the first n of a vector to bf16, rounded to nearest even; after vec_ISA.h. */
#ifndef DAN_KERNEL_STORE_HALF_H
#define DAN_KERNEL_STORE_HALF_H
#include <stdint.h>
#include <string.h>

static inline void store_bf16(void *p, vf x, int64_t n)
{
    uint16_t half[VF];
    vf_store_bf16(n >= VF ? p : half, x);
    if (n < VF) memcpy(p, half, (size_t)n * sizeof *half);
}

#endif
