/* Weights b in q8_0 [N,K], activations quantised to int8 per row and block of 32; integer sums per block
 * are exact, so every ISA has the same integers and only the f32 sum over blocks may round differently.
 * vpdpbusd wants one unsigned operand: weights become w + 128, and each block's sum starts at
 * -128 sum(x), which costs nothing (llama.cpp and ik_llama.cpp do the same with stored sums). */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/gemm.h"

enum { MR = 14, NR = 16, KC = 1024, MC = 36 * MR, NC = 1024, NC_THIN = NR, PACK_COST = 40 };
enum { BLOCK = 32, BLOCK_BYTES = 34 };

/* A block of a panel of a: MR x 32 int8, MR scales, MR starts of the sums; of b: 8 x 16 x 4 bytes, 16 scales. */
enum { A_Q = MR * BLOCK, A_STEP = A_Q + MR * 8, B_Q = NR * BLOCK, B_STEP = B_Q + NR * 4 };

static inline size_t panel_a_bytes(int64_t k) { return (size_t)(k / BLOCK * A_STEP + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(k / BLOCK * B_STEP); }
static inline size_t chunk_a_bytes(int rows) { (void)rows; return A_STEP; }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

/* 32 floats -> int8 at q; *scale = max|x| / 127, *start = -128 sum of the int8. */
static inline void quantise_block(const float *x, int8_t *q, float *scale, int32_t *start)
{
    __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
    float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x0), _mm512_abs_ps(x1)));
    __m512 inverse = _mm512_set1_ps(top > 1e-35f ? 127.f / top : 0.f);
    __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse)), q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
    _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(q1));
    *scale = top / 127.f;
    *start = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
}

static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    char *d = dst;
    for (int64_t b = 0; b < k; b += BLOCK, d += A_STEP) {
        float *scale = (float *)(d + A_Q);
        int32_t *start = (int32_t *)(scale + MR);
        for (int i = 0; i < rows; i++)
            quantise_block((const float *)((const char *)g->a + (row + i) * g->lda) + k0 + b, (int8_t *)d + i * BLOCK, scale + i, start + i);
    }
}

static inline __m512i two_rows(const char *p, int64_t ld, int i, int j)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)(p + i * ld + 2)), y = _mm256_loadu_si256((const __m256i *)(p + j * ld + 2));
    return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(x), y, 1), _mm512_set1_epi8(-128));
}

/* Dwords 0-3 (t[j], lanes 0 and 2) and 4-7 (lanes 1 and 3) of the rows i..i+3 and i+4..i+7. */
static inline void dwords_of_8(const char *p, int64_t ld, int i, __m512i t[4])
{
    __m512i r[4], u[4];
    for (int j = 0; j < 4; j++) r[j] = two_rows(p, ld, i + j, i + j + 4);
    u[0] = _mm512_unpacklo_epi32(r[0], r[1]);
    u[1] = _mm512_unpackhi_epi32(r[0], r[1]);
    u[2] = _mm512_unpacklo_epi32(r[2], r[3]);
    u[3] = _mm512_unpackhi_epi32(r[2], r[3]);
    t[0] = _mm512_unpacklo_epi64(u[0], u[2]);
    t[1] = _mm512_unpackhi_epi64(u[0], u[2]);
    t[2] = _mm512_unpacklo_epi64(u[1], u[3]);
    t[3] = _mm512_unpackhi_epi64(u[1], u[3]);
}

/* w[j] lane n: bytes 4j..4j+3 of the block of row n, plus 128.  Result: the scales. */
static inline __m512 load_block(const char *p, int64_t ld, __m512i offsets, __m512i w[8])
{
    __m512i lo[4], hi[4];
    dwords_of_8(p, ld, 0, lo);
    dwords_of_8(p, ld, 8, hi);
    for (int j = 0; j < 4; j++) {
        w[j] = _mm512_shuffle_i32x4(lo[j], hi[j], 0x88);
        w[j + 4] = _mm512_shuffle_i32x4(lo[j], hi[j], 0xdd);
    }
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_i32gather_epi32(offsets, p, 1)));
}

/* The last panel may have fewer rows: they go through a copy, with zeros after them. */
static void pack_short(char *d, const char *p, int64_t ld, int cols, int64_t blocks)
{
    for (int64_t b = 0; b < blocks; b++, p += BLOCK_BYTES, d += B_STEP) {
        char copy[NR * BLOCK_BYTES + 2] = {0};
        __m512i w[8];
        for (int i = 0; i < cols; i++) memcpy(copy + i * BLOCK_BYTES, p + i * ld, BLOCK_BYTES);
        __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        __m512 scale = load_block(copy, BLOCK_BYTES, _mm512_mullo_epi32(lane, _mm512_set1_epi32(BLOCK_BYTES)), w);
        for (int j = 0; j < 8; j++) _mm512_store_si512(d + 64 * j, w[j]);
        _mm512_store_ps(d + B_Q, scale);
    }
}

static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    const char *p = (const char *)g->b + col * g->ldb + k0 / BLOCK * BLOCK_BYTES;
    char *d = dst;
    if (cols < NR) {
        pack_short(d, p, g->ldb, cols, k / BLOCK);
        return;
    }
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i offsets = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)g->ldb));
    for (; k > 0; k -= BLOCK, p += BLOCK_BYTES, d += B_STEP) {
        __m512i w[8];
        __m512 scale = load_block(p, g->ldb, offsets, w);
        for (int j = 0; j < 8; j++) _mm512_store_si512(d + 64 * j, w[j]);
        _mm512_store_ps(d + B_Q, scale);
    }
}

/* The f32 sum runs over all blocks of K in order: it goes on from c. */
static inline __attribute__((always_inline)) void tile_of(int mr, int cols, int64_t k, const char *a, const char *b, float *c, int64_t ldc, bool first)
{
    __m512 s[MR];
    __mmask16 keep = vf_mask(cols);
    for (int i = 0; i < mr; i++) s[i] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(keep, c + i * ldc);
    for (; k > 0; k -= BLOCK, a += A_STEP, b += B_STEP) {
        __m512i w[8];
        const float *scale = (const float *)(a + A_Q);
        const int32_t *start = (const int32_t *)(scale + MR);
        __m512 ws = _mm512_load_ps(b + B_Q);
        for (int j = 0; j < 8; j++) w[j] = _mm512_load_si512(b + 64 * j);
        for (int i = 0; i < mr; i++) {
            const int32_t *x = (const int32_t *)(a + i * BLOCK);
            __m512i t = _mm512_set1_epi32(start[i]);
            for (int j = 0; j < 8; j++) t = _mm512_dpbusd_epi32(t, w[j], _mm512_set1_epi32(x[j]));
            s[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), _mm512_mul_ps(ws, _mm512_set1_ps(scale[i])), s[i]);
        }
    }
    for (int i = 0; i < mr; i++) _mm512_mask_storeu_ps(c + i * ldc, keep, s[i]);
}

#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define CASE(n) case n: tile_of(n, cols, k, a, b, c, ldc, first); break;
/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k, const void *a, const void *b, float *c, int64_t ldc, bool first)
{
    switch (rows) { HEIGHTS(CASE) }
}

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_q8_0.h"

const struct dan_kernel dan_kernel_matmul_q8_0_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_q8_0_avx512",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI, .rank = 60,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 3e-2f,
};
