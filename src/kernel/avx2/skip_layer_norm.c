#include "kernel/simd/math_avx2.h"
#include "kernel/simd/round_plain.h"
#include "kernel/simd/skip_layer_norm_body.h"

const struct dan_kernel dan_kernel_skip_layer_norm_avx2 = {
    .op = "skip_layer_norm", .isa = "avx2", .name = "skip_layer_norm_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .run = run, .half = true, .rtol = 5e-6f,
};
