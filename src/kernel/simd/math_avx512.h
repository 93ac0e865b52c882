#ifndef DAN_KERNEL_MATH_AVX512_H
#define DAN_KERNEL_MATH_AVX512_H
#include "kernel/simd/vec_avx512.h"
#include "kernel/simd/vec_math.h"
#endif
