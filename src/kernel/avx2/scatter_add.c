#include "kernel/simd/math_avx2.h"
#include "kernel/simd/scatter_add_body.h"

const struct dan_kernel dan_kernel_scatter_add_avx2 = {
    .op = "scatter_add", .isa = "avx2", .name = "scatter_add_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .run = run, .rtol = 1e-6f,
};
