/* fake_quant and fake_quant_step on avx2; see simd/fake_quant_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/fake_quant_body.h"

const struct dan_kernel dan_kernel_fake_quant_avx2 = {
    .op = "fake_quant", .isa = "avx2", .name = "fake_quant_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts_dynamic, .run = run_dynamic, .rtol = 0,
};

const struct dan_kernel dan_kernel_fake_quant_step_avx2 = {
    .op = "fake_quant_step", .isa = "avx2", .name = "fake_quant_step_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts_step, .run = run_step, .rtol = 0,
};

const struct dan_kernel dan_kernel_fake_quant_step_grad_avx2 = {
    .op = "fake_quant_step_grad", .isa = "avx2", .name = "fake_quant_step_grad_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts_grad, .run = run_grad, .rtol = 2e-6f,
};
