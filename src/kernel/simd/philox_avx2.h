/* Eight Philox counters at once (base/rng.h), as the 24-bit numbers of 32 elements in order. */
#ifndef DAN_KERNEL_PHILOX_AVX2_H
#define DAN_KERNEL_PHILOX_AVX2_H
#include <immintrin.h>
#include <stdint.h>

enum { PHILOX_BLOCK = 32 };

static inline void wide_mul(__m256i x, __m256i m, __m256i *hi, __m256i *lo)
{
    __m256i even = _mm256_mul_epu32(x, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), m);
    *hi = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *lo = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

static inline void philox_store(float *out, __m256i u) { _mm256_storeu_ps(out, _mm256_cvtepi32_ps(_mm256_srli_epi32(u, 8))); }

/* Lane 4 q + j holds counter 2 j + q, so that transposing 4 x 4 within lanes of 128 bits leaves elements in order. */
static inline void philox_block(uint64_t key, uint64_t stream, uint64_t first, float *out)
{
    const __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u), m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
    uint32_t low[8], high[8];
    for (unsigned i = 0; i < 8; i++) {
        uint64_t c = first + 2 * (i % 4) + i / 4;
        low[i] = (uint32_t)c;
        high[i] = (uint32_t)(c >> 32);
    }
    __m256i c0 = _mm256_loadu_si256((const __m256i *)low), c1 = _mm256_loadu_si256((const __m256i *)high);
    __m256i c2 = _mm256_set1_epi32((int)(uint32_t)stream), c3 = _mm256_set1_epi32((int)(uint32_t)(stream >> 32));
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        __m256i h0, l0, h1, l1;
        wide_mul(c0, m0, &h0, &l0);
        wide_mul(c2, m1, &h1, &l1);
        c0 = _mm256_xor_si256(_mm256_xor_si256(h1, c1), _mm256_set1_epi32((int)k0));
        c2 = _mm256_xor_si256(_mm256_xor_si256(h0, c3), _mm256_set1_epi32((int)k1));
        c1 = l1;
        c3 = l0;
    }
    __m256i a = _mm256_unpacklo_epi32(c0, c1), b = _mm256_unpacklo_epi32(c2, c3);
    __m256i d = _mm256_unpackhi_epi32(c0, c1), e = _mm256_unpackhi_epi32(c2, c3);
    philox_store(out, _mm256_unpacklo_epi64(a, b));
    philox_store(out + 8, _mm256_unpackhi_epi64(a, b));
    philox_store(out + 16, _mm256_unpacklo_epi64(d, e));
    philox_store(out + 24, _mm256_unpackhi_epi64(d, e));
}

#endif
