#include "kernel/simd/block_avx2.h"
#include "kernel/simd/attend_body.h"

const struct dan_kernel dan_kernel_attend_avx2 = {
    .op = "attend", .isa = "avx2", .name = "attend_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 1e-5f,
};
