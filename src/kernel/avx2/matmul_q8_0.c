/* Weights b in q8_0 [N,K]; see avx512/matmul_q8_0.c.  Without VNNI the int8 are widened to int16 while
 * they are packed and multiplied by vpmaddwd, which is exact (vpmaddubsw would saturate for some signs). */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/pack_avx2.h"
#include "kernel/simd/round_plain.h"
#include "kernel/simd/store_half.h"

enum { MR = 4, NR = 8, KC = 512, KI = KC, NC_THIN = NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 1, PACK_COST = 40, TAKES_BF16 = 0 };
enum { BLOCK = 32, BLOCK_BYTES = 34 };

/* A block of a panel of a: MR x 32 int16, MR scales (+ padding); of b: 16 pairs x 8 columns x 2 int16, 8 scales. */
enum { A_Q = MR * BLOCK * 2, A_STEP = A_Q + 32, B_Q = NR * BLOCK * 2, B_STEP = B_Q + NR * 4 };

static inline size_t panel_a_bytes(int64_t k) { return (size_t)(k / BLOCK * A_STEP + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(k / BLOCK * B_STEP + 63) / 64 * 64; }
static inline size_t chunk_a_bytes(int rows) { (void)rows; return A_STEP; }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

/* Group b of a row, widened; its scale. */
static inline float quantise_block(const struct dan_gemm *g, int64_t row, int64_t b, int16_t *q)
{
    const char *x = (const char *)g->a + row * g->lda + b * (g->a_rounded ? DAN_ROUNDED_GROUP_BYTES : BLOCK * 4);
    char levels[BLOCK];
    int32_t sum[2];
    float scale = g->a_rounded ? dan_rounded_group_of(x).scale : round_values(x, false, levels, sum);
    const char *from = g->a_rounded ? x : levels;
    for (int i = 0; i < 2; i++)
        _mm256_storeu_si256((__m256i *)q + i, _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from + i)));
    return scale;
}

static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    char *d = dst;
    for (int64_t b = 0; b < k; b += BLOCK, d += A_STEP)
        for (int i = 0; i < rows; i++) ((float *)(d + A_Q))[i] = quantise_block(g, row + i, (k0 + b) / BLOCK, (int16_t *)d + i * BLOCK);
}

static inline __m256 widen(const char *q) { return _mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q))); }

static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    const char *p = (const char *)g->b + col * g->ldb + k0 / BLOCK * BLOCK_BYTES;
    char *d = dst;
    for (; k > 0; k -= BLOCK, p += BLOCK_BYTES, d += B_STEP) {
        for (int h = 0; h < 2; h++) {
            __m256 r[8];
            for (int i = 0; i < 8; i++) r[i] = i < cols ? widen(p + i * g->ldb + 2 + 16 * h) : _mm256_setzero_ps();
            transpose8(r);
            for (int i = 0; i < 8; i++) _mm256_store_ps((float *)d + (8 * h + i) * NR, r[i]);
        }
        uint16_t scale[8] = {0};
        for (int i = 0; i < cols; i++) memcpy(scale + i, p + i * g->ldb, 2);
        _mm256_store_ps((float *)(d + B_Q), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)scale)));
    }
}

/* The f32 sum runs over all blocks of K in order: it goes on from c. */
static inline __attribute__((always_inline)) void tile_of(int mr, int cols, int64_t k,
                                                           const char *a, const char *b, float *c, int64_t ldc, bool first)
{
    __m256 s[MR];
    for (int i = 0; i < mr; i++) s[i] = first ? _mm256_setzero_ps() : vf_load_n(c + i * ldc, cols);
    for (; k > 0; k -= BLOCK, a += A_STEP, b += B_STEP) {
        __m256i t[MR];
        __m256 ws = _mm256_load_ps((const float *)(b + B_Q));
        for (int i = 0; i < mr; i++) t[i] = _mm256_setzero_si256();
        for (int j = 0; j < BLOCK / 2; j++) {
            __m256i w = _mm256_load_si256((const __m256i *)b + j);
            for (int i = 0; i < mr; i++)
                t[i] = _mm256_add_epi32(t[i], _mm256_madd_epi16(w, _mm256_set1_epi32(((const int32_t *)a)[i * (BLOCK / 2) + j])));
        }
        for (int i = 0; i < mr; i++)
            s[i] = vf_fma(_mm256_cvtepi32_ps(t[i]), vf_mul(ws, vf_set(((const float *)(a + A_Q))[i])), s[i]);
    }
    for (int i = 0; i < mr; i++) vf_store_n(c + i * ldc, s[i], cols);
}

#define HEIGHTS(X) X(1) X(2) X(3) X(4)
#define CASE(n) case n: tile_of(n, cols, k, a, b, c, ldc, first); break;
/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    switch (rows) { HEIGHTS(CASE) }
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_q8_0.h"

const struct dan_kernel dan_kernel_matmul_q8_0_avx2 = {
    .op = "matmul", .isa = "avx2", .name = "matmul_q8_0_avx2",
    .needs = DAN_CPU_AVX2, .rank = 25,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 3e-2f, .half = true,
};
