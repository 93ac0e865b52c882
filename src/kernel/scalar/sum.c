/* sum on scalar; see simd/sum_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/sum_body.h"

const struct dan_kernel dan_kernel_sum_scalar = {
    .op = "sum", .isa = "scalar", .name = "sum_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 2e-6f,
};
