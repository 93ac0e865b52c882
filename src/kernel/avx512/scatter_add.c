#include "kernel/simd/math_avx512.h"
#include "kernel/simd/scatter_add_body.h"

const struct dan_kernel dan_kernel_scatter_add_avx512 = {
    .op = "scatter_add", .isa = "avx512", .name = "scatter_add_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .run = run, .rtol = 1e-6f,
};
