/* swiglu on avx2; see simd/swiglu_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/swiglu_body.h"

const struct dan_kernel dan_kernel_swiglu_avx2 = {
    .op = "swiglu", .isa = "avx2", .name = "swiglu_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_swiglu, .half = true, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_swiglu_grad_avx2 = {
    .op = "swiglu_grad", .isa = "avx2", .name = "swiglu_grad_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_grad, .half = true, .rtol = 4e-6f,
};
