#include "kernel/simd/math_avx2.h"
#include "kernel/simd/round_plain.h"
#include "kernel/simd/quantise_rows_body.h"

const struct dan_kernel dan_kernel_quantise_rows_avx2 = {
    .op = "quantise_rows", .isa = "avx2", .name = "quantise_rows_avx2", .needs = DAN_CPU_AVX2, .rank = 10,
    .accepts = accepts, .run = run, .half = true, .rtol = 0,
};
