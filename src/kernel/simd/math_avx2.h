#ifndef DAN_KERNEL_MATH_AVX2_H
#define DAN_KERNEL_MATH_AVX2_H
#include "kernel/simd/vec_avx2.h"
#include "kernel/simd/vec_math.h"
#endif
