#include "kernel/simd/math_avx512.h"
#include "kernel/simd/round_avx512.h"
#include "kernel/simd/quantise_rows_body.h"

const struct dan_kernel dan_kernel_quantise_rows_avx512 = {
    .op = "quantise_rows", .isa = "avx512", .name = "quantise_rows_avx512", .needs = DAN_CPU_AVX512, .rank = 20,
    .accepts = accepts, .run = run, .half = true, .rtol = 0,
};
