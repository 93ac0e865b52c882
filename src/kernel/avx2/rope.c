#include "kernel/simd/vec_avx2.h"
#include "kernel/simd/rope_body.h"
#include "kernel/simd/rope_kv_write_body.h"

const struct dan_kernel dan_kernel_rope_avx2 = {
    .op = "rope", .isa = "avx2", .name = "rope_avx2", .needs = DAN_CPU_AVX2, .rank = 10, .accepts = accepts, .run = run, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_rope_kv_write_avx2 = {
    .op = "rope_kv_write", .isa = "avx2", .name = "rope_kv_write_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts_kv, .workspace = workspace_kv, .run = run_kv, .rtol = 2e-6f,
};
