/* softmax_ce on avx512; see simd/softmax_ce_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/softmax_ce_body.h"

const struct dan_kernel dan_kernel_softmax_ce_avx512 = {
    .op = "softmax_ce", .isa = "avx512", .name = "softmax_ce_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_ce, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_softmax_ce_grad_avx512 = {
    .op = "softmax_ce_grad", .isa = "avx512", .name = "softmax_ce_grad_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_grad, .rtol = 4e-6f,
};
