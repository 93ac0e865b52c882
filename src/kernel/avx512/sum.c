/* sum on avx512; see simd/sum_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/sum_body.h"

const struct dan_kernel dan_kernel_sum_avx512 = {
    .op = "sum", .isa = "avx512", .name = "sum_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 2e-6f,
};
