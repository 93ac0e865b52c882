#include "base/sys.h"
#include "kernel/simd/vec_avx512.h"
#include "kernel/simd/copy_body.h"

const struct dan_kernel dan_kernel_copy_avx512 = {
    .op = "copy", .isa = "avx512", .name = "copy_avx512", .needs = DAN_CPU_AVX512, .rank = 20, .accepts = accepts, .run = run, .half = true,
};
