#include "kernel/simd/rope_table_body.h"

const struct dan_kernel dan_kernel_rope_table_avx2 = {
    .op = "rope_table", .isa = "avx2", .name = "rope_table_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 2e-6f,
};
