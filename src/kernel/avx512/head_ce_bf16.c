#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/gemm.h"

static inline void product(const struct dan_gemm *g, void *ws, int ith, int nth) { dan_gemm_bf16_avx512(g, ws, ith, nth); }
static inline size_t product_bytes(int64_t m, int64_t n, int64_t k, int nth) { return dan_gemm_bf16_avx512_bytes(m, n, k, nth); }

#include "kernel/simd/head_ce_body.h"
#include "kernel/simd/head_ce_forward.h"

static bool accepts(const struct dan_args *a) { return a->attr[DAN_CE_PREC].i == DAN_PREC_BF16 && head_fits(a); }

const struct dan_kernel dan_kernel_head_ce_bf16_avx512 = {
    .op = "head_ce", .isa = "avx512", .name = "head_ce_bf16_avx512",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16,
    .rank = 40, .accepts = accepts, .workspace = workspace, .run = run, .rtol = 2e-5f,
};
