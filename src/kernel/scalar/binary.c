/* binary on scalar; see simd/binary_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/binary_body.h"

const struct dan_kernel dan_kernel_add_scalar = {
    .op = "add", .isa = "scalar", .name = "add_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_add, .rtol = 0,
};

const struct dan_kernel dan_kernel_sub_scalar = {
    .op = "sub", .isa = "scalar", .name = "sub_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_sub, .rtol = 0,
};

const struct dan_kernel dan_kernel_mul_scalar = {
    .op = "mul", .isa = "scalar", .name = "mul_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_mul, .rtol = 0,
};
