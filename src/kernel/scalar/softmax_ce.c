/* softmax_ce on scalar; see simd/softmax_ce_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/softmax_ce_body.h"

const struct dan_kernel dan_kernel_softmax_ce_scalar = {
    .op = "softmax_ce", .isa = "scalar", .name = "softmax_ce_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_ce, .rtol = 2e-6f,
};

const struct dan_kernel dan_kernel_softmax_ce_grad_scalar = {
    .op = "softmax_ce_grad", .isa = "scalar", .name = "softmax_ce_grad_scalar", .needs = 0, .rank = 1,
    .accepts = accepts, .run = run_grad, .rtol = 4e-6f,
};
