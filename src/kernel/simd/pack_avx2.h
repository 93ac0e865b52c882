/* Packing for the AVX2 products: 8 x 8 blocks of 4 bytes are transposed in registers. */
#ifndef DAN_KERNEL_PACK_AVX2_H
#define DAN_KERNEL_PACK_AVX2_H
#include "kernel/simd/gemm.h"
#include "kernel/simd/vec_avx2.h"

/* r[i] lane j <-> r[j] lane i */
static inline __attribute__((always_inline)) void transpose8(__m256 r[8])
{
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++) r[i] = t[i];
}

/* To bf16, nearest even, still as f32; NaN stays NaN. */
static inline __m256 round_bf16(__m256 x)
{
    __m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    u = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    u = _mm256_and_si256(u, _mm256_set1_epi32((int)0xffff0000));
    return _mm256_blendv_ps(_mm256_castsi256_ps(u), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* Row i of k rows, `step` floats apart: whole where the rows behind it write again what is too much; a masked store costs a dozen (vec_avx2.h). */
static inline void put_row(float *dst, int64_t step, int64_t i, int64_t k, int width, vf x)
{
    vf_store_n(dst + i * step, x, (k - i) * step >= VF ? VF : width);
}

/* dst[k][width] = src[n][k] for n < rows <= 8, zeros for n up to `width` <= 8; rows are `step` floats apart
 * in dst; rounded to bf16 if asked. */
static inline void pack_transposed(float *dst, int64_t step, int width, const float *src, int64_t ld, int rows, int64_t k, bool bf16)
{
    for (int64_t k0 = 0; k0 < k; k0 += 8) {
        int n = k - k0 < 8 ? (int)(k - k0) : 8;
        __m256 r[8];
        for (int i = 0; i < 8; i++) r[i] = i < rows ? vf_load_n(dan_gemm_at(src, ld, i, k0), n) : _mm256_setzero_ps();
        for (int i = 0; bf16 && i < 8; i++) r[i] = round_bf16(r[i]);
        transpose8(r);
        for (int i = 0; i < 8; i++)
            if (i < n) put_row(dst, step, k0 + i, k, width, r[i]);
    }
}

#endif
