/* The products of qgemm_body.h by AVX2: integers exact.  Levels of up to 6 bits take vpmaddubsw, whose pairs fit in int16 (63 x 127 x 2), and
 * some of them are added there; bytes (8 bits, tables) are widened and take vpmaddwd. */
#ifndef DAN_KERNEL_QGEMM_AVX2_H
#define DAN_KERNEL_QGEMM_AVX2_H
#include <stdbool.h>
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/qgemm_plain.h"
#include "kernel/simd/store_half.h"

enum { MR = 4 };
/* Rows of levels whose products fit together in int16: 8 x 15 x 127 x 2, 4 x 31 x 127 x 2, 2 x 63 x 127 x 2 < 2^15. */
enum { TOGETHER = BITS <= 4 ? 8 : BITS == 5 ? 4 : 2 };
typedef int32_t ints __attribute__((vector_size(32), aligned(32), may_alias));

static inline __m256i level_at(const char *p, int j, int c) { return _mm256_load_si256((const __m256i *)(p + 64 * j + 32 * c)); }

/* Rows lo .. hi of levels of 8 columns (c) times the activations q. */
static inline __attribute__((always_inline)) __m256i dot_small(const char *p, const int32_t *q, int lo, int hi, int c)
{
    __m256i t = _mm256_setzero_si256(), ones = _mm256_set1_epi16(1);
    for (int j = lo; j < hi; j += TOGETHER) {
        __m256i s = _mm256_setzero_si256();
        for (int k = j; k < j + TOGETHER && k < hi; k++) s = _mm256_add_epi16(s, _mm256_maddubs_epi16(level_at(p, k, c), _mm256_set1_epi32(q[k])));
        t = _mm256_add_epi32(t, _mm256_madd_epi16(s, ones));
    }
    return t;
}

static inline __attribute__((always_inline)) __m256i dot_bytes(const char *p, const int32_t *q, int lo, int hi, int c)
{
    __m256i t = _mm256_setzero_si256(), low = _mm256_set1_epi16(255);
    for (int j = lo; j < hi; j++) {
        __m256i w = level_at(p, j, c), x = _mm256_set1_epi32(q[j]);
        __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, low), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
        t = _mm256_add_epi32(t, _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8))));
    }
    return t;
}

static void add_rows(int rows, const char *x, const char *loose, float *sum)
{
    const float *scale = (const float *)(loose + LEVELS), *min = scale + NR * (1 + HALVES);
    for (int i = 0; i < rows; i++, x += X_GROUP, sum += NR) {
        const float *tail = (const float *)(x + GROUP);
        __m256 by = _mm256_set1_ps(tail[0]);
        for (int h = 0; h <= HALVES; h++)
            for (int c = 0; c < 2; c++) {
                int lo = HALVES ? 4 * h : 0, hi = HALVES ? lo + 4 : 8;
                const int32_t *q = (const int32_t *)x;
                __m256i t = BITS == 8 || q_table ? dot_bytes(loose, q, lo, hi, c) : dot_small(loose, q, lo, hi, c);
                t = _mm256_add_epi32(t, _mm256_set1_epi32(start_of(x, h)));
                __m256 s = _mm256_load_ps(sum + 8 * c), k = _mm256_mul_ps(_mm256_load_ps(scale + NR * h + 8 * c), by);
                s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t), k, s);
                if (MINS) s = _mm256_fmadd_ps(_mm256_load_ps(min + NR * h + 8 * c), _mm256_set1_ps(tail[1 + h]), s);
                _mm256_store_ps(sum + 8 * c, s);
            }
    }
}

#endif
