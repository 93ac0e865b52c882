#include "kernel/simd/math_avx512.h"
#include "kernel/simd/round_avx512.h"
#include "kernel/simd/skip_layer_norm_body.h"

const struct dan_kernel dan_kernel_skip_layer_norm_avx512 = {
    .op = "skip_layer_norm", .isa = "avx512", .name = "skip_layer_norm_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .run = run, .half = true, .rtol = 5e-6f,
};
