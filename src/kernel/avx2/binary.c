/* binary on avx2; see simd/binary_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/binary_body.h"

const struct dan_kernel dan_kernel_add_avx2 = {
    .op = "add", .isa = "avx2", .name = "add_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_add, .rtol = 0,
};

const struct dan_kernel dan_kernel_sub_avx2 = {
    .op = "sub", .isa = "avx2", .name = "sub_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_sub, .rtol = 0,
};

const struct dan_kernel dan_kernel_mul_avx2 = {
    .op = "mul", .isa = "avx2", .name = "mul_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run_mul, .rtol = 0,
};
