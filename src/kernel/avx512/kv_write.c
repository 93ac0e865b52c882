#include "base/sys.h"
#include "kernel/simd/vec_avx512.h"
#include "kernel/simd/kv_write_body.h"

const struct dan_kernel dan_kernel_kv_write_avx512 = {
    .op = "kv_write", .isa = "avx512", .name = "kv_write_avx512", .needs = DAN_CPU_AVX512, .rank = 20, .accepts = accepts, .workspace = workspace, .run = run,
};
