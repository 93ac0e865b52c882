/* What the AVX-512 products with q8_0 weights share: packing and the vpdpbusd tile.  Before this the file
 * defines MR, NR = 16, KC, and `bool as_unsigned(rows)`.
 *
 * Activations are quantised to int8 per row and block of 32; integer sums per block are exact, so every ISA
 * has the same integers, and the f32 sum over blocks is one fma per block in order.  vpdpbusd wants one
 * unsigned operand: activations become x + 128, and each sum starts at -128 sum(w), packed beside w. */
#ifndef DAN_KERNEL_Q8_0_AVX512_H
#define DAN_KERNEL_Q8_0_AVX512_H
#include "kernel/simd/gemm.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/round_avx512.h"
#include "kernel/simd/store_half.h"

enum { BLOCK = 32, BLOCK_BYTES = 34 };

/* A block of a panel of a: MR x 32 int8, MR scales; of b: 8 x 16 x 4 int8, 16 scales, 16 starts of the sums. */
enum { A_Q = MR * BLOCK, A_STEP = (A_Q + MR * 4 + 63) / 64 * 64, B_Q = NR * BLOCK, B_STEP = B_Q + NR * 8 };

static inline size_t panel_a_bytes(int64_t k) { return (size_t)(k / BLOCK * A_STEP + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(k / BLOCK * B_STEP); }
static inline size_t chunk_a_bytes(int rows) { (void)rows; return A_STEP; }

/* Group b of a row -> int8 (flip 0) or int8 + 128 (flip -128) at q; result: the scale, max|x| / 127. */
static inline float quantise_block(const struct dan_gemm *g, int64_t row, int64_t b, char *q, char flip)
{
    const char *x = (const char *)g->a + row * g->lda + b * (g->a_rounded ? DAN_ROUNDED_GROUP_BYTES : BLOCK * 4);
    __m512i levels[2];
    float scale = g->a_rounded ? dan_rounded_group_of(x).scale : round_levels(vf_load((const float *)x), vf_load((const float *)x + 16), q, levels);
    __m256i all = _mm256_loadu_si256((const __m256i *)(g->a_rounded ? x : q));
    _mm256_storeu_si256((__m256i *)q, _mm256_xor_si256(all, _mm256_set1_epi8(flip)));
    return scale;
}

static inline void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    char *d = dst, flip = as_unsigned(rows) ? -128 : 0;
    for (int64_t b = 0; b < k; b += BLOCK, d += A_STEP)
        for (int i = 0; i < rows; i++)
            ((float *)(d + A_Q))[i] = quantise_block(g, row + i, (k0 + b) / BLOCK, d + i * BLOCK, flip);
}

static inline __m512i two_rows(const char *p, int64_t ld, int i, int j)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)(p + i * ld + 2)), y = _mm256_loadu_si256((const __m256i *)(p + j * ld + 2));
    return _mm512_inserti64x4(_mm512_castsi256_si512(x), y, 1);
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

/* Packs one block of 16 rows: dword j of row n goes to d[j][n]; then scales and starts. */
static inline void pack_block(char *d, const char *p, int64_t ld, __m512i offsets)
{
    __m512i lo[4], hi[4], w[8], sum = _mm512_setzero_si512();
    dwords_of_8(p, ld, 0, lo);
    dwords_of_8(p, ld, 8, hi);
    for (int j = 0; j < 4; j++) {
        w[j] = _mm512_shuffle_i32x4(lo[j], hi[j], 0x88);
        w[j + 4] = _mm512_shuffle_i32x4(lo[j], hi[j], 0xdd);
    }
    for (int j = 0; j < 8; j++) {
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), w[j]);
        _mm512_store_si512(d + 64 * j, w[j]);
    }
    _mm512_store_ps(d + B_Q, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_i32gather_epi32(offsets, p, 1))));
    _mm512_store_si512(d + B_Q + 64, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-128)));
}

static inline __m512i row_offsets(int64_t ld)
{
    return _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32((int)ld));
}

/* The last panel may have fewer rows: they go through a copy, with zeros after them. */
static inline void pack_short(char *d, const char *p, int64_t ld, int cols, int64_t blocks)
{
    for (int64_t b = 0; b < blocks; b++, p += BLOCK_BYTES, d += B_STEP) {
        char copy[NR * BLOCK_BYTES + 2] = {0};
        for (int i = 0; i < cols; i++) memcpy(copy + i * BLOCK_BYTES, p + i * ld, BLOCK_BYTES);
        pack_block(d, copy, BLOCK_BYTES, row_offsets(BLOCK_BYTES));
    }
}

static inline void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    const char *p = (const char *)g->b + col * g->ldb + k0 / BLOCK * BLOCK_BYTES;
    char *d = dst;
    if (cols < NR) {
        pack_short(d, p, g->ldb, cols, k / BLOCK);
        return;
    }
    __m512i offsets = row_offsets(g->ldb);
    for (; k > 0; k -= BLOCK, p += BLOCK_BYTES, d += B_STEP) pack_block(d, p, g->ldb, offsets);
}

/* The f32 sum runs over all blocks of K in order: it goes on from c. */
static inline __attribute__((always_inline)) void tile_of(int mr, int cols, int64_t k,
                                                           const char *a, const char *b, float *c, int64_t ldc, bool first)
{
    __m512 s[MR];
    __mmask16 keep = vf_mask(cols);
    for (int i = 0; i < mr; i++) s[i] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(keep, c + i * ldc);
    for (; k > 0; k -= BLOCK, a += A_STEP, b += B_STEP) {
        __m512i w[8];
        const float *scale = (const float *)(a + A_Q);
        __m512 ws = _mm512_load_ps(b + B_Q);
        for (int j = 0; j < 8; j++) w[j] = _mm512_load_si512(b + 64 * j);
        for (int i = 0; i < mr; i++) {
            const int32_t *x = (const int32_t *)(a + i * BLOCK);
            __m512i t = _mm512_load_si512(b + B_Q + 64);
            for (int j = 0; j < 8; j++) t = _mm512_dpbusd_epi32(t, _mm512_set1_epi32(x[j]), w[j]);
            s[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), _mm512_mul_ps(ws, _mm512_set1_ps(scale[i])), s[i]);
        }
    }
    for (int i = 0; i < mr; i++) _mm512_mask_storeu_ps(c + i * ldc, keep, s[i]);
}

#endif
