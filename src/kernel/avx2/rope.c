#include "kernel/simd/math_avx2.h"
#include "kernel/simd/rope_body.h"

const struct dan_kernel dan_kernel_rope_avx2 = {
    .op = "rope", .isa = "avx2", .name = "rope_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 2e-6f,
};
