/* bf16 matrix product on AMX tiles: c tiles 2 x 2 of 16 x 16, k in steps of 32.  A step reads 4 KiB of
 * packed operands for 4 tdpbf16ps of 16 cycles each.  A panel of a (32 x KI bf16 = 32 KiB) stays in L1 while
 * b streams by: tileloaddt1 for b gives 3.35 instead of 2.6 TFLOP/s a core (of 3.4) at K = 512.
 * Rows and columns beyond the matrix are zeros in the packed panels, so all tiles are full. */
#include "base/sys.h"
#include "kernel/simd/amx.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/pack_amx.h"

enum { KC = 1536, KI = 512, NC_THIN = 2 * NR, ROW_UNIT = 16, READS_A = 1, ROWS_INSIDE = 0, PACK_COST = 96, TAKES_BF16 = 2 };

static inline void tile_begin(void) { tiles_begin(); }
static inline void tile_end(void) { _tile_release(); }

static void finish_rows(const struct dan_gemm *g, struct done *d, int most_rows);

/* Where the tiles of a panel of a are: row to row, k to k, upper to lower. */
struct left { const char *p; int64_t ld, step, lower; };

/* `slice` rows of a waiting tile are finished in each step, while the tile unit works on four products. */
static inline void multiply_2x2(int64_t k, struct left a, const char *b, const struct beside *x)
{
    int slice = (int)(k >= 32 ? (MR * 32 + k - 1) / k : MR);
    const char *ahead = x->ahead;
    int64_t wide = x->g->a_bf16 ? 64 : 128;
    for (; k > 0; k -= 32, a.p += a.step, b += B_STEP, ahead += wide) {
        for (int i = 0; i < x->n_ahead; i++) _mm_prefetch(ahead + i * x->g->lda, _MM_HINT_T0);
        for (int i = 0; i < x->n_ahead && wide > 64; i++) _mm_prefetch(ahead + i * x->g->lda + 64, _MM_HINT_T0);
        _tile_loadd(4, a.p, a.ld);
        _tile_stream_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_stream_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a.p + a.lower, a.ld);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        if (x->wait->rows) finish_rows(x->g, x->wait, slice);
    }
}

static inline void multiply_1x2(int64_t k, struct left a, const char *b)
{
    for (; k > 0; k -= 32, a.p += a.step, b += B_STEP) {
        _tile_loadd(4, a.p, a.ld);
        _tile_stream_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_stream_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
    }
}

/* Sums start at t (or 0), ld bytes from row to row, and end there. */
static inline void whole_tile(int rows, int64_t k, struct left a, const void *b, void *t, int64_t ld, bool first, const struct beside *x)
{
    char *lower = (char *)t + 16 * ld;
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, t, ld);
        _tile_loadd(1, (char *)t + 64, ld);
        if (rows > 16) _tile_loadd(2, lower, ld);
        if (rows > 16) _tile_loadd(3, lower + 64, ld);
    }
    if (rows > 16) multiply_2x2(k, a, b, x);
    else multiply_1x2(k, a, b);
    _tile_stored(0, t, ld);
    _tile_stored(1, (char *)t + 64, ld);
    if (rows > 16) _tile_stored(2, lower, ld);
    if (rows > 16) _tile_stored(3, lower + 64, ld);
}

/* c at the edge goes through a buffer. */
static __attribute__((noinline)) void edge_tile(int rows, int cols, int64_t k, struct left a, const void *b, float *c, int64_t ldc,
                                                bool first, const struct beside *x)
{
    _Alignas(64) float s[MR * NR];
    __mmask16 lo = vf_mask(cols), hi = vf_mask(cols > 16 ? cols - 16 : 0);
    for (int i = 0; i < MR && !first; i++) {
        _mm512_store_ps(s + i * NR, i < rows ? _mm512_maskz_loadu_ps(lo, c + i * ldc) : _mm512_setzero_ps());
        _mm512_store_ps(s + i * NR + 16, i < rows ? _mm512_maskz_loadu_ps(hi, c + i * ldc + 16) : _mm512_setzero_ps());
    }
    whole_tile(rows, k, a, b, s, NR * 4, first, x);
    for (int i = 0; i < rows; i++, c += ldc) {
        _mm512_mask_storeu_ps(c, lo, _mm512_load_ps(s + i * NR));
        _mm512_mask_storeu_ps(c + 16, hi, _mm512_load_ps(s + i * NR + 16));
    }
}

static inline void tile(int rows, int cols, int64_t k, const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    struct left left = x->lda ? (struct left){a, x->lda, 64, 16 * x->lda} : (struct left){a, 64, A_STEP, TILE};
    if (rows % 16 == 0 && cols == NR) whole_tile(rows, k, left, b, c, ldc * 4, first, x);
    else edge_tile(rows, cols, k, left, b, c, ldc, first, x);
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_float.h"
#include "kernel/simd/amx_thin.h"

void dan_gemm_bf16_amx(const struct dan_gemm *g, void *ws, int ith, int nth) { gemm_run(g, ws, ith, nth); }
size_t dan_gemm_bf16_amx_bytes(int64_t m, int64_t n, int64_t k, int nth) { return plain_bytes(m, n, k, nth); }

static size_t workspace_any(const struct dan_args *a, int nth)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    size_t many = workspace(a, nth), few = few_bytes(&g, nth);
    return many > few ? many : few;
}

static void run_any(const struct dan_args *a)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    if (few_fits(&g)) few_run(&g, a->ws, a->ith, a->nth);
    else run(a);
}

static bool accepts(const struct dan_args *a) { return a->attr[DAN_MATMUL_PREC].i == DAN_PREC_BF16 && !dan_has_scale(a) && accepts_b(a); }

const struct dan_kernel dan_kernel_matmul_bf16_amx = {
    .op = "matmul", .isa = "avx512", .name = "matmul_bf16_amx",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16, .rank = 50,
    .accepts = accepts, .workspace = workspace_any, .run = run_any, .rtol = 1e-5f, .half = true,
};

/* The same with two outputs: before and after the activation. */
const struct dan_kernel dan_kernel_linear_act_bf16_amx = {
    .op = "linear_act", .isa = "avx512", .name = "linear_act_bf16_amx",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16, .rank = 50,
    .accepts = accepts, .workspace = workspace_any, .run = run_any, .rtol = 1e-5f, .half = true,
};
