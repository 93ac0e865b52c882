#include "kernel/simd/math_avx512.h"
#include "kernel/simd/rope_body.h"

const struct dan_kernel dan_kernel_rope_avx512 = {
    .op = "rope", .isa = "avx512", .name = "rope_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 2e-6f,
};
