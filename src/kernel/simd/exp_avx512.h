/* e^x on 16 floats.  Cody-Waite reduction x = n ln 2 + r, |r| <= ln 2 / 2, then a degree 6 minimax-like
 * polynomial (Cephes expf, Moshier 1989).  Error < 1.5 ulp on [-87.3, 88.7]; below: 0, so that no denormal
 * ever slows a softmax down; above: the largest result.  NaN gives NaN, -inf gives 0. */
#ifndef DAN_KERNEL_SIMD_EXP_AVX512_H
#define DAN_KERNEL_SIMD_EXP_AVX512_H
#include <immintrin.h>

static inline __m512 dan_exp_avx512(__m512 x)
{
    __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33654f), _CMP_NLT_UQ);
    x = _mm512_min_ps(_mm512_set1_ps(88.72283f), x);     /* this order keeps a NaN in x */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_maskz_scalef_ps(alive, p, n);
}

#endif
