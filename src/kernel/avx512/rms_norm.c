#include "kernel/simd/math_avx512.h"
#include "kernel/simd/round_avx512.h"
#include "kernel/simd/rms_norm_body.h"

const struct dan_kernel dan_kernel_rms_norm_avx512 = {
    .op = "rms_norm", .isa = "avx512", .name = "rms_norm_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .run = run, .half = true, .rtol = 5e-6f,
};
