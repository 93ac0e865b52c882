#include "kernel/simd/rope_table_body.h"

const struct dan_kernel dan_kernel_rope_table_avx512 = {
    .op = "rope_table", .isa = "avx512", .name = "rope_table_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 2e-6f,
};
