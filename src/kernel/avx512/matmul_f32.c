/* f32 matrix product, tiles of 14 x 32: 28 accumulators, two columns of b and one element of a fill the
 * 32 registers; 28 FMA for 16 loads keep both FMA ports busy.  Also serves prec = bf16 on CPUs without
 * bf16 instructions: operands are rounded while they are packed. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/pack_avx512.h"
#include "kernel/simd/store_half.h"

enum { MR = 14, NR = 32, KC = 256, KI = KC, NC_THIN = 2 * NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 0, PACK_COST = 16, TAKES_BF16 = 1 };
enum { DIRECT_MAX = 4 };

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
    __mmask16 keep = vf_mask(rows);
    for (int64_t i = 0; i < k; i++) {
        __m512 x = _mm512_maskz_loadu_ps(keep, dan_gemm_at(g->a, g->lda, k0 + i, row));
        _mm512_mask_storeu_ps(d + i * rows, keep, g->bf16 ? round_bf16(x) : x);
    }
}

/* dst [k][NR], zeros beyond cols */
static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    float *d = dst;
    if (g->tb) {
        for (int h = 0; h < NR; h += 16) {
            if (g->b_bf16) unpack_transposed(d + h, NR, (const char *)g->b + (col + h) * g->ldb + 2 * k0, g->ldb, cols - h, k);
            else pack_transposed(d + h, NR, 16, dan_gemm_at(g->b, g->ldb, col + h, k0), g->ldb, cols - h, k, g->bf16);
        }
        return;
    }
    __mmask16 lo = vf_mask(cols), hi = vf_mask(cols > 16 ? cols - 16 : 0);
    for (int64_t i = 0; i < k; i++) {
        const float *s = dan_gemm_at(g->b, g->ldb, k0 + i, col);
        __m512 x = _mm512_maskz_loadu_ps(lo, s), y = _mm512_maskz_loadu_ps(hi, s + 16);
        _mm512_store_ps(d + i * NR, g->bf16 ? round_bf16(x) : x);
        _mm512_store_ps(d + i * NR + 16, g->bf16 ? round_bf16(y) : y);
    }
}

static inline __attribute__((always_inline)) void tile_of(int mr, int cols, int64_t k,
                                                           const float *a, const float *b, float *c, int64_t ldc, bool first)
{
    __m512 s[MR][2];
    __mmask16 lo = vf_mask(cols), hi = vf_mask(cols > 16 ? cols - 16 : 0);
    for (int i = 0; i < mr; i++) s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (; k > 0; k--, a += mr, b += NR) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
        for (int i = 0; i < mr; i++) {
            __m512 x = _mm512_set1_ps(a[i]);
            s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
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
/* Not inlined: clang would otherwise keep constants of the epilogue in registers and spill accumulators (3 x slower). */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    switch (rows) { HEIGHTS(CASE) }
}

/* s[i] += a[k][i] b[k][column] over k < n <= 16, of row k of 16 columns in r. */
static inline __attribute__((always_inline)) void direct_f32(int mr, int cols, int64_t n, int64_t t, const float *a, const void *b, int64_t ldb,
                                                             __m512 *s)
{
    __m512 r[16];
    ask_for_next(b, ldb, t);
    if (cols >= 16 && n >= 16) stream_transposed(b, ldb, r);
    else load_part(b, ldb, cols, n, r);
    for (int j = 0; j < 16 && j < n; j++)
        for (int i = 0; i < mr; i++) s[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[j * mr + i]), r[j], s[i]);
}

/* The same of b in bf16, n <= 32: a register holds pairs of k. */
static inline __attribute__((always_inline)) void direct_bf16(int mr, int cols, int64_t n, int64_t t, const float *a, const void *b, int64_t ldb,
                                                             __m512 *s)
{
    __m512 r[16];
    ask_for_next(b, ldb, t);
    if (cols >= 16 && n >= 32) stream_transposed(b, ldb, r);
    else load_pairs(b, ldb, cols, n, r);
    for (int j = 0; j < 16 && 2 * j < n; j++, a += 2 * mr) {
        __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(r[j]), 16));
        __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(r[j]), _mm512_set1_epi32((int)0xffff0000)));
        for (int i = 0; i < mr; i++) s[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[i]), even, s[i]);
        for (int i = 0; i < mr && 2 * j + 1 < n; i++) s[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[mr + i]), odd, s[i]);
    }
}

/* 32 columns in two halves, whose chains of fma overlap. */
static inline __attribute__((always_inline)) void direct_of(int mr, int cols, int64_t n, const float *a, const char *b, int64_t ldb,
                                                            float *c, int64_t ldc, bool first, bool half)
{
    __m512 s[2][DIRECT_MAX];
    int step = half ? 32 : 16;
    for (int i = 0; i < mr; i++) s[0][i] = s[1][i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n; k += step, a += step * mr, b += 64) {
        for (int h = 0; h < 2; h++) {
            if (cols - 16 * h <= 0) continue;
            if (half) direct_bf16(mr, cols - 16 * h, n - k, k / step, a, b + 16 * h * ldb, ldb, s[h]);
            else direct_f32(mr, cols - 16 * h, n - k, k / step, a, b + 16 * h * ldb, ldb, s[h]);
        }
    }
    for (int i = 0; i < mr; i++, c += ldc) {
        for (int h = 0; h < 2; h++) {
            __mmask16 keep = vf_mask(cols > 16 * h ? cols - 16 * h : 0);
            if (!first) s[h][i] = _mm512_add_ps(_mm512_maskz_loadu_ps(keep, c + 16 * h), s[h][i]);
            _mm512_mask_storeu_ps(c + 16 * h, keep, s[h][i]);
        }
    }
}

#define FEW(X) X(1) X(2) X(3) X(4)
#define CASE_F32(m) case m: direct_of(m, cols, n, a, b, g->ldb, c, ldc, first, false); break;
#define CASE_BF16(m) case m: direct_of(m, cols, n, a, b, g->ldb, c, ldc, first, true); break;
static __attribute__((noinline)) void direct_rows(int rows, int cols, int64_t n, const void *a, const struct dan_gemm *g, int64_t col,
                                                  int64_t k0, float *c, int64_t ldc, bool first)
{
    const char *b = (const char *)g->b + col * g->ldb + k0 * (g->b_bf16 ? 2 : 4);
    if (g->b_bf16) switch (rows) { FEW(CASE_BF16) }
    else switch (rows) { FEW(CASE_F32) }
}
static dan_gemm_direct_fn *const direct = direct_rows;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_float.h"

void dan_gemm_f32_avx512(const struct dan_gemm *g, void *ws, int ith, int nth) { gemm_run(g, ws, ith, nth); }
size_t dan_gemm_f32_avx512_bytes(int64_t m, int64_t n, int64_t k, int nth) { return plain_bytes(m, n, k, nth); }

const struct dan_kernel dan_kernel_matmul_f32_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_f32_avx512",
    .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts_b, .workspace = workspace, .run = run, .pack_bytes = f32_pack_bytes, .pack = float_pack, .rtol = 1e-5f, .half = true,
};

/* The same with two outputs: before and after the activation. */
const struct dan_kernel dan_kernel_linear_act_f32_avx512 = {
    .op = "linear_act", .isa = "avx512", .name = "linear_act_f32_avx512",
    .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts_b, .workspace = workspace, .run = run, .rtol = 1e-5f, .half = true,
};
