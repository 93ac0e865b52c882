/* bf16 matrix product: operands are f32 in memory, rounded to bf16 while they are packed; vdpbf16ps sums
 * pairs of products in f32.  Same tile as matmul_f32, with pairs of k for single ones. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/pack_avx512.h"

enum { MR = 14, NR = 32, KC = 512, KI = KC, NC_THIN = 2 * NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 0, PACK_COST = 24, TAKES_BF16 = 2 };
enum { DIRECT_MAX = 4 };

/* Up to FEW_ROWS rows wait for memory, where b was packed before: bytes that a tile asks for ahead; the hardware stops at the end of a page. */
enum { FEW_ROWS = 8, AHEAD = 4096 };

static inline size_t panel_a_bytes(int64_t k) { return (size_t)((k + 1) / 2 * MR * 4 + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)((k + 1) / 2 * NR * 4); }
static inline size_t chunk_a_bytes(int rows) { return (size_t)rows * CHUNK * 2; }
static inline void store_bf16(void *p, vf x, int64_t n) { store_half(p, x, n); }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

/* dst [k/2][rows] pairs */
static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    int64_t size = g->a_bf16 ? 2 : 4;
    if (g->ta) pack_pairs(dst, rows, rows, (const char *)g->a + k0 * g->lda + row * size, g->lda, rows, k, g->a_bf16);
    else pack_pairs_transposed(dst, rows, rows, (const char *)g->a + row * g->lda + k0 * size, g->lda, rows, k, g->a_bf16);
}

/* dst [k/2][NR] pairs, zeros beyond cols */
static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    int64_t size = g->b_bf16 ? 2 : 4;
    for (int h = 0; h < NR; h += 16) {
        const char *p = (const char *)g->b + (g->tb ? (col + h) * g->ldb + k0 * size : k0 * g->ldb + (col + h) * size);
        if (g->tb) pack_pairs_transposed((float *)dst + h, NR, 16, p, g->ldb, cols - h, k, g->b_bf16);
        else pack_pairs((float *)dst + h, NR, 16, p, g->ldb, cols - h, k, g->b_bf16);
    }
}

static inline __attribute__((always_inline)) void tile_of(int mr, int cols, int64_t k,
                                                           const float *a, const float *b, float *c, int64_t ldc, bool first)
{
    __m512 s[MR][2];
    __mmask16 lo = vf_mask(cols), hi = vf_mask(cols > 16 ? cols - 16 : 0);
    for (int i = 0; i < mr; i++) s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (; k > 0; k -= 2, a += mr, b += NR) {
        for (int i = 0; i < 2 && mr <= FEW_ROWS; i++) _mm_prefetch((const char *)b + AHEAD + 64 * i, _MM_HINT_T1);
        __m512bh b0 = (__m512bh)_mm512_load_ps(b), b1 = (__m512bh)_mm512_load_ps(b + 16);
        for (int i = 0; i < mr; i++) {
            __m512bh x = (__m512bh)_mm512_set1_ps(a[i]);
            s[i][0] = _mm512_dpbf16_ps(s[i][0], x, b0);
            s[i][1] = _mm512_dpbf16_ps(s[i][1], x, b1);
        }
    }
    for (int i = 0; i < mr; i++, c += ldc) {
        if (!first) s[i][0] = _mm512_add_ps(_mm512_maskz_loadu_ps(lo, c), s[i][0]);
        if (!first) s[i][1] = _mm512_add_ps(_mm512_maskz_loadu_ps(hi, c + 16), s[i][1]);
        _mm512_mask_storeu_ps(c, lo, s[i][0]);
        _mm512_mask_storeu_ps(c + 16, hi, s[i][1]);
    }
}

#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define CASE(n) case n: tile_of(n, cols, k, a, b, c, ldc, first); break;
/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    switch (rows) { HEIGHTS(CASE) }
}

/* 16 columns, 32 of k from b as it lies; a [16 pairs][mr]. */
static inline __attribute__((always_inline)) void direct_pairs(int mr, int cols, int64_t n, int64_t t, const float *a, const char *b, int64_t ldb,
                                                               bool stored, __m512 *s)
{
    __m512 r[16];
    ask_for_next(b, ldb, t);
    if (stored && cols >= 16 && n >= 32) {
        stream_transposed(b, ldb, r);
    } else if (stored) {
        load_pairs(b, ldb, cols, n, r);
    } else {
        for (int i = 0; i < 16; i++) r[i] = i < cols ? bf16_from((const float *)(b + i * ldb), n) : _mm512_setzero_ps();
        transpose16(r);
    }
    for (int j = 0; j < 16 && 2 * j < n; j++)
        for (int i = 0; i < mr; i++) s[i] = _mm512_dpbf16_ps(s[i], (__m512bh)_mm512_set1_ps(a[j * mr + i]), (__m512bh)r[j]);
}

/* 32 columns in two halves, whose chains overlap; the sums and their order are those of tile_of. */
static inline __attribute__((always_inline)) void direct_of(int mr, int cols, int64_t n, const float *a, const char *b, int64_t ldb,
                                                            float *c, int64_t ldc, bool first, bool stored)
{
    __m512 s[2][DIRECT_MAX];
    for (int i = 0; i < mr; i++) s[0][i] = s[1][i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n; k += 32, a += 16 * mr, b += stored ? 64 : 128)
        for (int h = 0; h < 2 && cols > 16 * h; h++) direct_pairs(mr, cols - 16 * h, n - k, k / 32, a, b + 16 * h * ldb, ldb, stored, s[h]);
    for (int i = 0; i < mr; i++, c += ldc) {
        for (int h = 0; h < 2; h++) {
            __mmask16 keep = vf_mask(cols > 16 * h ? cols - 16 * h : 0);
            if (!first) s[h][i] = _mm512_add_ps(_mm512_maskz_loadu_ps(keep, c + 16 * h), s[h][i]);
            _mm512_mask_storeu_ps(c + 16 * h, keep, s[h][i]);
        }
    }
}

#define FEW(X) X(1) X(2) X(3) X(4)
#define CASE_STORED(m) case m: direct_of(m, cols, n, a, b, g->ldb, c, ldc, first, true); break;
#define CASE_F32(m) case m: direct_of(m, cols, n, a, b, g->ldb, c, ldc, first, false); break;
static __attribute__((noinline)) void direct_rows(int rows, int cols, int64_t n, const void *a, const struct dan_gemm *g, int64_t col,
                                                  int64_t k0, float *c, int64_t ldc, bool first)
{
    const char *b = (const char *)g->b + col * g->ldb + k0 * (g->b_bf16 ? 2 : 4);
    if (g->b_bf16) {
        switch (rows) { FEW(CASE_STORED) }
    } else {
        switch (rows) { FEW(CASE_F32) }
    }
}
static dan_gemm_direct_fn *const direct = direct_rows;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_float.h"

void dan_gemm_bf16_avx512(const struct dan_gemm *g, void *ws, int ith, int nth) { gemm_run(g, ws, ith, nth); }
size_t dan_gemm_bf16_avx512_bytes(int64_t m, int64_t n, int64_t k, int nth) { return plain_bytes(m, n, k, nth); }

static bool accepts(const struct dan_args *a) { return a->attr[DAN_MATMUL_PREC].i == DAN_PREC_BF16 && !dan_has_scale(a) && accepts_b(a); }

const struct dan_kernel dan_kernel_matmul_bf16_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_bf16_avx512",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16, .rank = 40,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = float_pack_bytes, .pack = float_pack, .rtol = 1e-5f, .half = true,
};

/* The same with two outputs: before and after the activation. */
const struct dan_kernel dan_kernel_linear_act_bf16_avx512 = {
    .op = "linear_act", .isa = "avx512", .name = "linear_act_bf16_avx512",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16, .rank = 40,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 1e-5f, .half = true,
};
