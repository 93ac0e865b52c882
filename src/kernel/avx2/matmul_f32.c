/* f32 matrix product, tiles of 6 x 16: 12 accumulators, two columns of b and one element of a fill 15 of
 * the 16 registers.  Also serves prec = bf16: operands are rounded while they are packed. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/pack_avx2.h"
#include "kernel/simd/direct_avx2.h"
#include "kernel/simd/store_half.h"

enum { MR = 6, NR = 16, KC = 256, KI = KC, NC_THIN = 4 * NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 1, PACK_COST = 16, TAKES_BF16 = 0 };

static inline size_t panel_a_bytes(int64_t k) { return (size_t)(k * MR * 4 + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(k * NR * 4); }
static inline size_t chunk_a_bytes(int rows) { return (size_t)rows * CHUNK * 4; }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

/* dst [k][rows] */
static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    float *d = dst;
    if (!g->ta) {
        pack_transposed(d, rows, rows, dan_gemm_at(g->a, g->lda, row, k0), g->lda, rows, k, g->bf16);
        return;
    }
    for (int64_t i = 0; i < k; i++) {
        __m256 x = vf_load_n(dan_gemm_at(g->a, g->lda, k0 + i, row), rows);
        put_row(d, rows, i, k, rows, g->bf16 ? round_bf16(x) : x);
    }
}

/* dst [k][NR], zeros beyond cols */
static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    float *d = dst;
    for (int h = 0; h < NR; h += 8) {
        if (g->tb) {
            pack_transposed(d + h, NR, 8, dan_gemm_at(g->b, g->ldb, col + h, k0), g->ldb, cols - h, k, g->bf16);
            continue;
        }
        for (int64_t i = 0; i < k; i++) {
            __m256 x = vf_load_n(dan_gemm_at(g->b, g->ldb, k0 + i, col + h), cols - h);
            _mm256_store_ps(d + i * NR + h, g->bf16 ? round_bf16(x) : x);
        }
    }
}

static inline __attribute__((always_inline)) void tile_of(int mr, int cols, int64_t k,
                                                           const float *a, const float *b, float *c, int64_t ldc, bool first)
{
    __m256 s[MR][2];
    for (int i = 0; i < mr; i++) s[i][0] = s[i][1] = _mm256_setzero_ps();
    for (; k > 0; k--, a += mr, b += NR) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
        for (int i = 0; i < mr; i++) {
            __m256 x = _mm256_broadcast_ss(a + i);
            s[i][0] = _mm256_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(x, b1, s[i][1]);
        }
    }
    UNROLL
    for (int i = 0; i < mr; i++, c += ldc) {
        if (!first) s[i][0] = _mm256_add_ps(vf_load_n(c, cols), s[i][0]);
        if (!first) s[i][1] = _mm256_add_ps(vf_load_n(c + 8, cols - 8), s[i][1]);
        vf_store_n(c, s[i][0], cols);
        vf_store_n(c + 8, s[i][1], cols - 8);
    }
}

#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define CASE(n) case n: tile_of(n, cols, k, a, b, c, ldc, first); break;
/* Not inlined: clang would otherwise keep constants of the epilogue in registers and spill accumulators. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    switch (rows) { HEIGHTS(CASE) }
}

static dan_gemm_direct_fn *const direct = direct_rows;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_float.h"

void dan_gemm_f32_avx2(const struct dan_gemm *g, void *ws, int ith, int nth) { gemm_run(g, ws, ith, nth); }
size_t dan_gemm_f32_avx2_bytes(int64_t m, int64_t n, int64_t k, int nth) { return plain_bytes(m, n, k, nth); }

const struct dan_kernel dan_kernel_matmul_f32_avx2 = {
    .op = "matmul", .isa = "avx2", .name = "matmul_f32_avx2",
    .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts_b, .workspace = workspace, .run = run, .pack_bytes = f32_pack_bytes, .pack = float_pack, .rtol = 1e-5f, .half = true,
};

/* The same with two outputs: before and after the activation. */
const struct dan_kernel dan_kernel_linear_act_f32_avx2 = {
    .op = "linear_act", .isa = "avx2", .name = "linear_act_f32_avx2",
    .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts_b, .workspace = workspace, .run = run, .rtol = 1e-5f, .half = true,
};
