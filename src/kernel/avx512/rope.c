#include "kernel/simd/vec_avx512.h"
#include "kernel/simd/rope_body.h"
#include "kernel/simd/rope_kv_write_body.h"

const struct dan_kernel dan_kernel_rope_avx512 = {
    .op = "rope", .isa = "avx512", .name = "rope_avx512", .needs = DAN_CPU_AVX512, .rank = 20, .accepts = accepts, .run = run, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_rope_kv_write_avx512 = {
    .op = "rope_kv_write", .isa = "avx512", .name = "rope_kv_write_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts_kv, .workspace = workspace_kv, .run = run_kv, .rtol = 2e-6f,
};
