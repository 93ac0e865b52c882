/* swiglu on avx512; see simd/swiglu_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/swiglu_body.h"

const struct dan_kernel dan_kernel_swiglu_avx512 = {
    .op = "swiglu", .isa = "avx512", .name = "swiglu_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_swiglu, .half = true, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_swiglu_grad_avx512 = {
    .op = "swiglu_grad", .isa = "avx512", .name = "swiglu_grad_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_grad, .half = true, .rtol = 4e-6f,
};
