#include "kernel/simd/math_avx512.h"
enum { LAYER = 1 };
#include "kernel/simd/norm_grad_body.h"

const struct dan_kernel dan_kernel_layer_norm_grad_avx512 = {
    .op = "layer_norm_grad", .isa = "avx512", .name = "layer_norm_grad_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 1e-5f,
};
