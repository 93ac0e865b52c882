/* The products of qgemm_body.h by AVX2: integers exact.  Levels of up to 6 bits take vpmaddubsw, whose pairs fit in int16 (63 x 127 x 2), and
 * some of them are added there; bytes (8 bits, tables) take it with their sign moved to the activation. */
#ifndef DAN_KERNEL_QGEMM_AVX2_H
#define DAN_KERNEL_QGEMM_AVX2_H
#include <stdbool.h>
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/qgemm_plain.h"
#include "kernel/simd/store_half.h"
#include "kernel/simd/unroll.h"

enum { MR = 4 };
/* Rows of levels whose products fit together in int16: 8 x 15 x 127 x 2, 4 x 31 x 127 x 2, 2 x 63 x 127 x 2 < 2^15. */
enum { TOGETHER = BITS <= 4 ? 8 : BITS == 5 ? 4 : 2 };
#define IN_BYTES (BITS == 8 || q_table)
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

/* t[i] = rows of levels of 8 columns times the activations of row i.  |level| times the activation with the level's sign: a pair fits in
 * int16 (128 x 127 x 2 < 2^15). */
static inline __attribute__((always_inline)) void dot_bytes(int rows, const char *p, const char *x, int lo, int hi, int c, __m256i *t)
{
    const __m256i offset = _mm256_set1_epi8((char)OFFSET), ones = _mm256_set1_epi16(1);
    UNROLL
    for (int i = 0; i < rows; i++) t[i] = _mm256_setzero_si256();
    for (int j = lo; j < hi; j++) {
        __m256i w = _mm256_sub_epi8(level_at(p, j, c), offset), size = _mm256_abs_epi8(w);
        UNROLL
        for (int i = 0; i < rows; i++) {
            __m256i q = _mm256_sign_epi8(_mm256_set1_epi32(((const int32_t *)(x + i * X_GROUP))[j]), w);
            t[i] = _mm256_add_epi32(t[i], _mm256_madd_epi16(_mm256_maddubs_epi16(size, q), ones));
        }
    }
}

static inline __attribute__((always_inline)) void add_rows_of(int rows, const char *x, const char *loose, float *sum)
{
    const float *scale = (const float *)(loose + LEVELS), *min = scale + NR * (1 + HALVES);
    for (int c = 0; c < 2; c++)
        for (int h = 0; h <= HALVES; h++) {
            int lo = HALVES ? 4 * h : 0, hi = HALVES ? lo + 4 : 8;
            __m256i t[MR];
            if (IN_BYTES) dot_bytes(rows, loose, x, lo, hi, c, t);
            UNROLL
            for (int i = 0; i < rows; i++) {
                const char *xi = x + i * X_GROUP;
                const float *tail = (const float *)(xi + GROUP);
                if (!IN_BYTES) t[i] = _mm256_add_epi32(dot_small(loose, (const int32_t *)xi, lo, hi, c), _mm256_set1_epi32(start_of(xi, h)));
                __m256 s = _mm256_load_ps(sum + i * NR + 8 * c), k = _mm256_mul_ps(_mm256_load_ps(scale + NR * h + 8 * c), _mm256_set1_ps(tail[0]));
                s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t[i]), k, s);
                if (MINS) s = _mm256_fmadd_ps(_mm256_load_ps(min + NR * h + 8 * c), _mm256_set1_ps(tail[1 + h]), s);
                _mm256_store_ps(sum + i * NR + 8 * c, s);
            }
        }
}

static void add_rows(int rows, const char *x, const char *loose, float *sum)
{
    if (rows == 4) add_rows_of(4, x, loose, sum);
    else if (rows == 3) add_rows_of(3, x, loose, sum);
    else if (rows == 2) add_rows_of(2, x, loose, sum);
    else add_rows_of(1, x, loose, sum);
}

#endif
