/* softmax_ce on avx2; see simd/softmax_ce_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/softmax_ce_body.h"

const struct dan_kernel dan_kernel_softmax_ce_avx2 = {
    .op = "softmax_ce", .isa = "avx2", .name = "softmax_ce_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_ce, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_softmax_ce_grad_avx2 = {
    .op = "softmax_ce_grad", .isa = "avx2", .name = "softmax_ce_grad_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_grad, .rtol = 4e-6f,
};
