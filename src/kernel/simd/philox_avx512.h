/* Sixteen Philox counters at once (base/rng.h), as the 24-bit numbers of 64 elements in order. */
#ifndef DAN_KERNEL_PHILOX_AVX512_H
#define DAN_KERNEL_PHILOX_AVX512_H
#include <immintrin.h>
#include <stdint.h>

enum { PHILOX_BLOCK = 64 };

static inline void wide_mul(__m512i x, __m512i m, __m512i *hi, __m512i *lo)
{
    __m512i even = _mm512_mul_epu32(x, m), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), m);
    *hi = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *lo = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

static inline void philox_store(float *out, __m512i u) { _mm512_storeu_ps(out, _mm512_cvtepi32_ps(_mm512_srli_epi32(u, 8))); }

/* Lane 4 q + j holds counter 4 j + q, so that transposing 4 x 4 within lanes of 128 bits leaves elements in order. */
static inline void philox_block(uint64_t key, uint64_t stream, uint64_t first, float *out)
{
    const __m512i place = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i m0 = _mm512_set1_epi32((int)0xD2511F53u), m1 = _mm512_set1_epi32((int)0xCD9E8D57u);
    const __m512i low = _mm512_set1_epi32((int)(uint32_t)first), high = _mm512_set1_epi32((int)(uint32_t)(first >> 32));
    __m512i c0 = _mm512_add_epi32(low, place);
    __m512i c1 = _mm512_mask_add_epi32(high, _mm512_cmplt_epu32_mask(c0, low), high, _mm512_set1_epi32(1));
    __m512i c2 = _mm512_set1_epi32((int)(uint32_t)stream), c3 = _mm512_set1_epi32((int)(uint32_t)(stream >> 32));
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        __m512i h0, l0, h1, l1;
        wide_mul(c0, m0, &h0, &l0);
        wide_mul(c2, m1, &h1, &l1);
        c0 = _mm512_ternarylogic_epi32(h1, c1, _mm512_set1_epi32((int)k0), 0x96);
        c2 = _mm512_ternarylogic_epi32(h0, c3, _mm512_set1_epi32((int)k1), 0x96);
        c1 = l1;
        c3 = l0;
    }
    __m512i a = _mm512_unpacklo_epi32(c0, c1), b = _mm512_unpacklo_epi32(c2, c3);
    __m512i d = _mm512_unpackhi_epi32(c0, c1), e = _mm512_unpackhi_epi32(c2, c3);
    philox_store(out, _mm512_unpacklo_epi64(a, b));
    philox_store(out + 16, _mm512_unpackhi_epi64(a, b));
    philox_store(out + 32, _mm512_unpacklo_epi64(d, e));
    philox_store(out + 48, _mm512_unpackhi_epi64(d, e));
}

#endif
