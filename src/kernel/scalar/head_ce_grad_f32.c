#include "kernel/simd/math_scalar.h"
#include "kernel/simd/gemm.h"

static inline void product(const struct dan_gemm *g, void *ws, int ith, int nth) { dan_gemm_f32_scalar(g, ws, ith, nth); }
static inline size_t product_bytes(int64_t m, int64_t n, int64_t k, int nth) { return dan_gemm_f32_scalar_bytes(m, n, k, nth); }

#include "kernel/simd/head_ce_body.h"
#include "kernel/simd/head_ce_backward.h"

static bool accepts(const struct dan_args *a) { return head_fits(a); }

const struct dan_kernel dan_kernel_head_ce_grad_f32_scalar = {
    .op = "head_ce_grad", .isa = "scalar", .name = "head_ce_grad_f32_scalar",
    .rank = 10, .accepts = accepts, .workspace = workspace, .run = run, .rtol = 1e-2f,
};
