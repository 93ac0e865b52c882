/* store_bf16 of gemm_body.h where the CPU has no instruction for it: the first n of a vector, rounded to nearest even; after
 * vec_ISA.h. */
#ifndef DAN_KERNEL_STORE_HALF_H
#define DAN_KERNEL_STORE_HALF_H
#include "kernel/simd/half.h"

static inline void store_bf16(void *p, vf x, int64_t n) { store_row(true, p, 0, x, n); }

#endif
