#include "kernel/simd/block_avx512.h"
#include "kernel/simd/attend_grad_body.h"

const struct dan_kernel dan_kernel_attend_grad_avx512 = {
    .op = "attend_grad", .isa = "avx512", .name = "attend_grad_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 2e-5f,
};
