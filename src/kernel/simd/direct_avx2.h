/* Up to 4 rows times b^T [N,K] in f32 or bf16 as it lies, AVX2: decode.  The sums and their order are those of the
 * packed product; 3 to 5 x as fast as packing b first, for weights in cache. */
#ifndef DAN_KERNEL_DIRECT_AVX2_H
#define DAN_KERNEL_DIRECT_AVX2_H
#include <immintrin.h>
#include "kernel/simd/gemm.h"

/* r[i] lane n: 4 bytes i of row n, 8 x 8.  What crosses 128-bit lanes is done by the load ports. */
static inline __attribute__((always_inline)) void load_turned(const char *src, int64_t ld, __m256 r[8])
{
    for (int q = 0; q < 2; q++) {
        __m256 z[4], t[4];
        for (int j = 0; j < 4; j++) {
            const char *p = src + j * ld + 16 * q;
            z[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)p)), _mm_loadu_ps((const float *)(p + 4 * ld)), 1);
        }
        t[0] = _mm256_unpacklo_ps(z[0], z[1]);
        t[1] = _mm256_unpackhi_ps(z[0], z[1]);
        t[2] = _mm256_unpacklo_ps(z[2], z[3]);
        t[3] = _mm256_unpackhi_ps(z[2], z[3]);
        r[4 * q] = _mm256_shuffle_ps(t[0], t[2], 0x44);
        r[4 * q + 1] = _mm256_shuffle_ps(t[0], t[2], 0xee);
        r[4 * q + 2] = _mm256_shuffle_ps(t[1], t[3], 0x44);
        r[4 * q + 3] = _mm256_shuffle_ps(t[1], t[3], 0xee);
    }
}

/* `bytes` of each of `rows` rows, zeros beyond. */
static inline void load_turned_part(const char *src, int64_t ld, int rows, int64_t bytes, __m256 r[8])
{
    _Alignas(32) char part[8 * 32] = {0};
    for (int i = 0; i < rows && i < 8; i++) memcpy(part + 32 * i, src + i * ld, (size_t)(bytes < 32 ? bytes : 32));
    load_turned(part, 32, r);
}

/* s[i] += a[k][i] b[k][column] over k < n of 32 bytes of 8 columns. */
static inline __attribute__((always_inline)) void direct_step(int mr, bool half, int cols, int64_t n, const float *a, const char *b, int64_t ldb,
                                                              __m256 *s)
{
    __m256 r[8];
    int64_t bytes = n * (half ? 2 : 4);
    if (cols >= 8 && bytes >= 32) load_turned(b, ldb, r);
    else load_turned_part(b, ldb, cols, bytes, r);
    UNROLL
    for (int j = 0; j < 8; j++) {
        if (j >= (half ? (n + 1) / 2 : n)) continue;
        __m256i pair = _mm256_castps_si256(r[j]);
        __m256 even = half ? _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)) : r[j];
        __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
        const float *x = a + j * mr * (half ? 2 : 1);
        for (int i = 0; i < mr; i++) s[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + i), even, s[i]);
        if (!half || 2 * j + 1 >= n) continue;
        for (int i = 0; i < mr; i++) s[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + mr + i), odd, s[i]);
    }
}

/* 16 columns in two halves, whose chains of fma overlap. */
static inline __attribute__((always_inline)) void direct_of(int mr, bool half, int cols, int64_t n, const float *a, const char *b, int64_t ldb,
                                                            float *c, int64_t ldc, bool first)
{
    __m256 s[2][4];
    int64_t step = half ? 16 : 8;
    for (int i = 0; i < mr; i++) s[0][i] = s[1][i] = _mm256_setzero_ps();
    for (int64_t k = 0; k < n; k += step, a += step * mr, b += 32) {
        for (int i = 16; i < 32 && k % (2 * step) == 0; i++) _mm_prefetch(b + i * ldb, _MM_HINT_T1);     /* the next columns: pack_avx512.h */
        UNROLL
        for (int h = 0; h < 2; h++)
            if (cols > 8 * h) direct_step(mr, half, cols - 8 * h, n - k, a, b + 8 * h * ldb, ldb, s[h]);
    }
    UNROLL
    for (int i = 0; i < mr; i++, c += ldc) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            if (!first) s[h][i] = _mm256_add_ps(vf_load_n(c + 8 * h, cols - 8 * h), s[h][i]);
            vf_store_n(c + 8 * h, s[h][i], cols - 8 * h);
        }
    }
}

#define FEW(X) X(1) X(2) X(3) X(4)
#define CASE_F32(m) case m: direct_of(m, false, cols, n, a, b, g->ldb, c, ldc, first); break;
#define CASE_BF16(m) case m: direct_of(m, true, cols, n, a, b, g->ldb, c, ldc, first); break;
static __attribute__((noinline)) void direct_rows(int rows, int cols, int64_t n, const void *a, const struct dan_gemm *g, int64_t col,
                                                  int64_t k0, float *c, int64_t ldc, bool first)
{
    const char *b = (const char *)g->b + col * g->ldb + k0 * (g->b_bf16 ? 2 : 4);
    if (g->b_bf16) {
        switch (rows) { FEW(CASE_BF16) }
    } else {
        switch (rows) { FEW(CASE_F32) }
    }
}

#endif
