#include "kernel/simd/math_avx2.h"
enum { LAYER = 1 };
#include "kernel/simd/norm_grad_body.h"

const struct dan_kernel dan_kernel_layer_norm_grad_avx2 = {
    .op = "layer_norm_grad", .isa = "avx2", .name = "layer_norm_grad_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 1e-5f,
};
