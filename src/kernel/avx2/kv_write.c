#include "base/sys.h"
#include "kernel/simd/vec_avx2.h"
#include "kernel/simd/kv_write_body.h"

const struct dan_kernel dan_kernel_kv_write_avx2 = {
    .op = "kv_write", .isa = "avx2", .name = "kv_write_avx2", .needs = DAN_CPU_AVX2, .rank = 10, .accepts = accepts, .workspace = workspace, .run = run,
};
