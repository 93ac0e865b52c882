/* swiglu on scalar; see simd/swiglu_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/swiglu_body.h"

const struct dan_kernel dan_kernel_swiglu_scalar = {
    .op = "swiglu", .isa = "scalar", .name = "swiglu_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_swiglu, .half = true, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_swiglu_grad_scalar = {
    .op = "swiglu_grad", .isa = "scalar", .name = "swiglu_grad_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_grad, .half = true, .rtol = 4e-6f,
};
