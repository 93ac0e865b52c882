/* bf16 matrix product on AMX tiles: c tiles 2 x 2 of 16 x 16, k in steps of 32.  A step reads 4 KiB of
 * packed operands for 4 tdpbf16ps of 16 cycles each; the panel of b (KC x 32 bf16 = 32 KiB) stays in L1.
 * Rows and columns beyond the matrix are zeros in the packed panels, so all tiles are full. */
#include "base/sys.h"
#include "kernel/simd/amx.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/pack_avx512.h"

enum { MR = 32, NR = 32, KC = 512, MC = 8 * MR, NC = 3072, NC_THIN = 2 * NR, PACK_COST = 96, TAKES_BF16 = 1 };

static inline int64_t up32(int64_t k) { return (k + 31) / 32 * 32; }
static inline size_t panel_a_bytes(int64_t k) { return (size_t)(up32(k) * MR * 2); }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(up32(k) * NR * 2); }

static inline size_t chunk_a_bytes(int rows) { (void)rows; return MR * CHUNK * 2; }
static inline void tile_begin(void)
{
    struct tile_config t = {.palette = 1};
    for (int i = 0; i < 8; i++) t.row_bytes[i] = 64, t.rows[i] = 16;
    _tile_loadconfig(&t);
}
static inline void tile_end(void) { _tile_release(); }

/* One tile, 16 rows x 32 of k: rows of op(a) from row, columns from k0, of which `rows` and k exist. */
static inline void pack_tile(float *d, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    __m512 r[16];
    __mmask16 part = vf_mask(rows);
    for (int j = 0; j < 16 && !g->ta; j++)
        r[j] = j < rows ? bf16_from(dan_gemm_at(g->a, g->lda, row + j, k0), k) : _mm512_setzero_ps();
    for (int j = 0; j < 16 && g->ta; j++) {
        __m512 x = 2 * j < k ? _mm512_maskz_loadu_ps(part, dan_gemm_at(g->a, g->lda, k0 + 2 * j, row)) : _mm512_setzero_ps();
        __m512 y = 2 * j + 1 < k ? _mm512_maskz_loadu_ps(part, dan_gemm_at(g->a, g->lda, k0 + 2 * j + 1, row)) : _mm512_setzero_ps();
        r[j] = bf16_pairs(x, y);
    }
    if (g->ta) transpose16(r);
    for (int j = 0; j < 16; j++) _mm512_store_ps(d + j * 16, r[j]);
}

/* dst [k/32][32 rows][32] bf16: one cache line is a row of a tile; zeros beyond rows and k. */
static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    float *d = dst;
    for (int64_t i = 0; i < k; i += 32, d += MR * 16)
        for (int h = 0; h < rows; h += 16) pack_tile(d + h * 16, g, row + h, rows - h < 16 ? rows - h : 16, k0 + i, k - i);
}

/* dst [k/2][32] pairs, zeros beyond cols and k */
static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    float *d = dst;
    for (int64_t i = (k + 1) / 2; i < up32(k) / 2; i++) memset(d + i * NR, 0, NR * 4);
    int64_t size = g->b_bf16 ? 2 : 4;
    for (int h = 0; h < NR; h += 16) {
        const char *p = (const char *)g->b + (col + h) * g->ldb + k0 * size;
        if (g->tb) pack_pairs_transposed(d + h, NR, 16, p, g->ldb, cols - h, k, g->b_bf16);
        else pack_pairs(d + h, NR, 16, dan_gemm_at(g->b, g->ldb, k0, col + h), g->ldb, cols - h, k);
    }
}

static inline void multiply_2x2(int64_t k, const float *a, const float *b)
{
    for (; k > 0; k -= 32, a += MR * 16, b += 16 * NR) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 16, 128);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 256, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline void multiply_1x2(int64_t k, const float *a, const float *b)
{
    for (; k > 0; k -= 32, a += MR * 16, b += 16 * NR) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 16, 128);
        _tile_dpbf16ps(1, 4, 7);
    }
}

/* The block sum goes through a buffer in L1: blocks are then added as in the other kernels. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first)
{
    _Alignas(64) float s[MR * NR];
    __mmask16 lo = vf_mask(cols), hi = vf_mask(cols > 16 ? cols - 16 : 0);
    bool whole = rows == MR && cols == NR && first;
    float *t = whole ? c : s;
    int64_t ld = whole ? ldc * 4 : NR * 4;
    _tile_zero(0);
    _tile_zero(1);
    if (rows > 16) {
        _tile_zero(2);
        _tile_zero(3);
        multiply_2x2(k, a, b);
        _tile_stored(2, (char *)t + 16 * ld, ld);
        _tile_stored(3, (char *)t + 16 * ld + 64, ld);
    } else {
        multiply_1x2(k, a, b);
    }
    _tile_stored(0, t, ld);
    _tile_stored(1, (char *)t + 64, ld);
    for (int i = 0; i < rows && !whole; i++, c += ldc) {
        __m512 x = _mm512_load_ps(s + i * NR), y = _mm512_load_ps(s + i * NR + 16);
        if (!first) x = _mm512_add_ps(_mm512_maskz_loadu_ps(lo, c), x);
        if (!first) y = _mm512_add_ps(_mm512_maskz_loadu_ps(hi, c + 16), y);
        _mm512_mask_storeu_ps(c, lo, x);
        _mm512_mask_storeu_ps(c + 16, hi, y);
    }
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_float.h"

void dan_gemm_bf16_amx(const struct dan_gemm *g, void *ws, int ith, int nth) { gemm_run(g, ws, ith, nth); }
size_t dan_gemm_bf16_amx_bytes(int64_t m, int64_t n, int64_t k, int nth) { return gemm_bytes(m, n, k, nth); }

static bool accepts(const struct dan_args *a) { return a->attr[DAN_MATMUL_PREC].i == DAN_PREC_BF16 && accepts_b(a); }

const struct dan_kernel dan_kernel_matmul_bf16_amx = {
    .op = "matmul", .isa = "avx512", .name = "matmul_bf16_amx",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16, .rank = 50,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 1e-5f,
};
