/* act on scalar; see simd/act_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/act_body.h"

const struct dan_kernel dan_kernel_act_scalar = {
    .op = "act", .isa = "scalar", .name = "act_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_act, .half = true, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_act_grad_scalar = {
    .op = "act_grad", .isa = "scalar", .name = "act_grad_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_grad, .half = true, .rtol = 4e-6f,
};
