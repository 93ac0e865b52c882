/* fake_quant and fake_quant_step on avx512; see simd/fake_quant_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/fake_quant_body.h"

const struct dan_kernel dan_kernel_fake_quant_avx512 = {
    .op = "fake_quant", .isa = "avx512", .name = "fake_quant_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts_dynamic, .run = run_dynamic, .rtol = 0,
};

const struct dan_kernel dan_kernel_fake_quant_step_avx512 = {
    .op = "fake_quant_step", .isa = "avx512", .name = "fake_quant_step_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts_step, .run = run_step, .rtol = 0,
};

const struct dan_kernel dan_kernel_fake_quant_step_grad_avx512 = {
    .op = "fake_quant_step_grad", .isa = "avx512", .name = "fake_quant_step_grad_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts_grad, .run = run_grad, .rtol = 2e-6f,
};
