/* act on avx512; see simd/act_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/act_body.h"

const struct dan_kernel dan_kernel_act_avx512 = {
    .op = "act", .isa = "avx512", .name = "act_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_act, .half = true, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_act_grad_avx512 = {
    .op = "act_grad", .isa = "avx512", .name = "act_grad_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_grad, .half = true, .rtol = 4e-6f,
};
