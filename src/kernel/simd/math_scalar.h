#ifndef DAN_KERNEL_MATH_SCALAR_H
#define DAN_KERNEL_MATH_SCALAR_H
#include "kernel/simd/vec_scalar.h"
#include "kernel/simd/vec_math.h"
#endif
