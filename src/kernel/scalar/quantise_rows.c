#include "kernel/simd/math_scalar.h"
#include "kernel/simd/round_plain.h"
#include "kernel/simd/quantise_rows_body.h"

const struct dan_kernel dan_kernel_quantise_rows_scalar = {
    .op = "quantise_rows", .isa = "scalar", .name = "quantise_rows_scalar", .rank = 5,
    .accepts = accepts, .run = run, .half = true, .rtol = 0,
};
