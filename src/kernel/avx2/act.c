/* act on avx2; see simd/act_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/act_body.h"

const struct dan_kernel dan_kernel_act_avx2 = {
    .op = "act", .isa = "avx2", .name = "act_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_act, .half = true, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_act_grad_avx2 = {
    .op = "act_grad", .isa = "avx2", .name = "act_grad_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_grad, .half = true, .rtol = 4e-6f,
};
