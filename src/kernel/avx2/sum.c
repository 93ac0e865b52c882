/* sum on avx2; see simd/sum_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/sum_body.h"

const struct dan_kernel dan_kernel_sum_avx2 = {
    .op = "sum", .isa = "avx2", .name = "sum_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 2e-6f,
};
