/* binary on avx512; see simd/binary_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/binary_body.h"

const struct dan_kernel dan_kernel_add_avx512 = {
    .op = "add", .isa = "avx512", .name = "add_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_add, .rtol = 0,
};

const struct dan_kernel dan_kernel_sub_avx512 = {
    .op = "sub", .isa = "avx512", .name = "sub_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_sub, .rtol = 0,
};

const struct dan_kernel dan_kernel_mul_avx512 = {
    .op = "mul", .isa = "avx512", .name = "mul_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run_mul, .rtol = 0,
};
