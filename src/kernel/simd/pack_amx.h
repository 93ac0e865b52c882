/* Packing for the bf16 product on AMX tiles of 16 rows of 64 bytes.
 *   a  [k/32][2 tiles][16 rows][32 k]        one cache line is a row of a tile
 *   b  [k/32][2 tiles][16 pairs of k][16 n]  a cache line is the pairs (k, k+1) of 16 columns
 * Zeros beyond rows, columns and k. */
#ifndef DAN_KERNEL_PACK_AMX_H
#define DAN_KERNEL_PACK_AMX_H
#include "kernel/simd/pack_avx512.h"

enum { MR = 32, NR = 32, TILE = 1024, A_STEP = 2 * TILE, B_STEP = 2 * TILE };   /* bytes */

static inline int64_t up32(int64_t k) { return (k + 31) / 32 * 32; }
static inline size_t panel_a_bytes(int64_t k) { return (size_t)(up32(k) * MR * 2); }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(up32(k) * NR * 2); }
static inline size_t chunk_a_bytes(int rows) { (void)rows; return A_STEP; }

static inline void store_bf16(void *p, vf x, int64_t n) { store_half(p, x, n); }

static inline void store_tile(char *d, const __m512 r[16])
{
    for (int j = 0; j < 16; j++) _mm512_store_ps(d + j * 64, r[j]);
}

/* A row of a, f32 or bf16, to d, A_STEP bytes from 32 k to 32 k. */
static inline void pack_row(char *d, const char *p, int64_t k, bool stored)
{
    if (stored)
        for (; k > 0; k -= 32, p += 64, d += A_STEP) _mm512_store_ps((float *)d, bf16_stored(p, k));
    else
        for (; k > 0; k -= 32, p += 128, d += A_STEP) _mm512_store_ps((float *)d, bf16_from((const float *)p, k));
}

/* Zeros where rows are missing. */
static inline void pad_rows(char *d, int rows, int64_t k)
{
    for (; k > 0; k -= 32, d += A_STEP)
        for (int j = rows; j < (rows + 15) / 16 * 16; j++) _mm512_store_si512(d + j * 64, _mm512_setzero_si512());
}

/* Four rows of 8 bf16, 8 rows apart, in the lanes of a register: the load ports do the first stages of the transposition. */
static inline __m512i four_rows(const char *p, int64_t ld)
{
    __m512i z = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    z = _mm512_mask_broadcast_i32x4(z, 0x00f0, _mm_loadu_si128((const __m128i *)(p + 8 * ld)));
    z = _mm512_mask_broadcast_i32x4(z, 0x0f00, _mm_loadu_si128((const __m128i *)(p + 16 * ld)));
    return _mm512_mask_broadcast_i32x4(z, 0xf000, _mm_loadu_si128((const __m128i *)(p + 24 * ld)));
}

/* Columns of p [32][8] bf16 as 8 rows of 32: in each lane an 8 x 8 transposition. */
static inline void transpose_32x8(char *d, const char *p, int64_t ld)
{
    __m512i r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = four_rows(p + i * ld, ld);
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm512_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int h = 0; h < 2; h++) {                      /* h: columns 0-3, 4-7 */
        __m512i a = _mm512_unpacklo_epi32(t[h], t[2 + h]), b = _mm512_unpackhi_epi32(t[h], t[2 + h]);
        __m512i c = _mm512_unpacklo_epi32(t[4 + h], t[6 + h]), e = _mm512_unpackhi_epi32(t[4 + h], t[6 + h]);
        char *q = d + h * 256;
        _mm512_store_si512(q, _mm512_unpacklo_epi64(a, c));
        _mm512_store_si512(q + 64, _mm512_unpackhi_epi64(a, c));
        _mm512_store_si512(q + 128, _mm512_unpacklo_epi64(b, e));
        _mm512_store_si512(q + 192, _mm512_unpackhi_epi64(b, e));
    }
}

/* A tile of a stored as bf16 [K,M]. */
static inline void columns_tile(char *d, const char *p, int64_t ld, int rows, int64_t k)
{
    _Alignas(64) char part[32 * 32];
    if (rows < 16 || k < 32) {
        for (int j = 0; j < 32; j++, p += ld)
            _mm256_store_si256((__m256i *)(part + 32 * j), j < k ? _mm256_maskz_loadu_epi16(vf_mask(rows), p) : _mm256_setzero_si256());
        p = part;
        ld = 32;
    }
    transpose_32x8(d, p, ld);
    transpose_32x8(d + 512, p + 16, ld);
}

/* The same of f32 [K,M]. */
static inline void columns_tile_f32(char *d, const char *p, int64_t ld, int rows, int64_t k)
{
    __m512 r[16];
    __mmask16 part = vf_mask(rows);
    for (int j = 0; j < 16; j++, p += 2 * ld) {
        __m512 x = 2 * j < k ? _mm512_maskz_loadu_ps(part, p) : _mm512_setzero_ps();
        __m512 y = 2 * j + 1 < k ? _mm512_maskz_loadu_ps(part, p + ld) : _mm512_setzero_ps();
        r[j] = bf16_pairs(x, y);
    }
    transpose16(r);
    store_tile(d, r);
}

static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    int64_t size = g->a_bf16 ? 2 : 4;
    char *d = dst;
    if (!g->ta) {
        const char *p = (const char *)g->a + row * g->lda + k0 * size;
        for (int j = 0; j < rows; j++, p += g->lda) pack_row(d + j * 64, p, k, g->a_bf16);
        pad_rows(d, rows, k);
        return;
    }
    for (int h = 0; h < rows; h += 16, d += TILE) {
        int n = rows - h < 16 ? rows - h : 16;
        const char *p = (const char *)g->a + k0 * g->lda + (row + h) * size;
        for (int64_t i = 0; i < k; i += 32, p += 32 * g->lda) {
            if (g->a_bf16) columns_tile(d + i / 32 * A_STEP, p, g->lda, n, k - i);
            else columns_tile_f32(d + i / 32 * A_STEP, p, g->lda, n, k - i);
        }
    }
}

/* A tile of b [N,K]. */
static inline void pairs_tile_transposed(char *d, const char *p, int64_t ld, int cols, int64_t k, bool stored)
{
    __m512 r[16];
    if (stored) {
        load_pairs(p, ld, cols, k, r);
    } else {
        for (int i = 0; i < 16; i++, p += ld) r[i] = i < cols ? bf16_from((const float *)p, k) : _mm512_setzero_ps();
        transpose16(r);
    }
    store_tile(d, r);
}

/* Pairs of two rows of 32 bf16: columns 0-15 and 16-31. */
static inline void zip_rows(char *d, __m512i x, __m512i y)
{
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);     /* unpack takes the lower and upper half of each lane */
    x = _mm512_permutexvar_epi64(order, x);
    y = _mm512_permutexvar_epi64(order, y);
    _mm512_store_si512(d, _mm512_unpacklo_epi16(x, y));
    _mm512_store_si512(d + TILE, _mm512_unpackhi_epi16(x, y));
}

/* Two tiles of b stored as bf16 [K,N]. */
static inline void pairs_tiles(char *d, const char *p, int64_t ld, int cols, int64_t k)
{
    __mmask32 part = cols >= 32 ? 0xffffffffu : (1u << cols) - 1;
    for (int j = 0; j < 32; j += 2, d += 64, p += 2 * ld) {
        __m512i x = j < k ? _mm512_maskz_loadu_epi16(part, p) : _mm512_setzero_si512();
        __m512i y = j + 1 < k ? _mm512_maskz_loadu_epi16(part, p + ld) : _mm512_setzero_si512();
        zip_rows(d, x, y);
    }
}

/* The same of f32. */
static inline void pairs_tiles_f32(char *d, const char *p, int64_t ld, int cols, int64_t k)
{
    for (int j = 0; j < 32; j += 2, d += 64, p += 2 * ld) {
        __m512 x = j < k ? bf16_from((const float *)p, cols) : _mm512_setzero_ps();
        __m512 y = j + 1 < k ? bf16_from((const float *)(p + ld), cols) : _mm512_setzero_ps();
        zip_rows(d, _mm512_castps_si512(x), _mm512_castps_si512(y));
    }
}

static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    int64_t size = g->b_bf16 ? 2 : 4;
    char *d = dst;
    if (!g->tb) {
        const char *p = (const char *)g->b + k0 * g->ldb + col * size;
        for (int64_t i = 0; i < k; i += 32, d += B_STEP, p += 32 * g->ldb) {
            if (g->b_bf16) pairs_tiles(d, p, g->ldb, cols, k - i);
            else pairs_tiles_f32(d, p, g->ldb, cols, k - i);
        }
        return;
    }
    for (int h = 0; h < NR; h += 16) {
        const char *p = (const char *)g->b + (col + h) * g->ldb + k0 * size;
        char *to = d + h / 16 * TILE;
        for (int64_t i = 0; i < k; i += 32, to += B_STEP) pairs_tile_transposed(to, p + i * size, g->ldb, cols - h, k - i, g->b_bf16);
    }
}

#endif
