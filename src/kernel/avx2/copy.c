#include "base/sys.h"
#include "kernel/simd/vec_avx2.h"
#include "kernel/simd/copy_body.h"

const struct dan_kernel dan_kernel_copy_avx2 = {
    .op = "copy", .isa = "avx2", .name = "copy_avx2", .needs = DAN_CPU_AVX2, .rank = 10, .accepts = accepts, .run = run, .half = true,
};
