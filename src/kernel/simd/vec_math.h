/* exp, tanh, erfc and the activations of enum dan_act on vectors; included by math_ISA.h.
 * Relative errors against double, measured: exp 8e-8, tanh 1.4e-7, sigmoid and SiLU 2e-7; erfc 1e-6 up to
 * z = 3, 8e-6 where it is 1e-30; GELU 4e-7 absolute. */
#ifndef DAN_KERNEL_VEC_MATH_H
#define DAN_KERNEL_VEC_MATH_H
#include "op/attrs.h"

/* e^x: x = n ln 2 + r, |r| <= 0.35, Cephes' expf polynomial in r.  0 below -87.3, inf above 88.73: results that are
 * denormal take 30 times as long (73 instead of 2.5 ns for 16 on Sapphire Rapids). */
static inline vf vf_exp(vf given)
{
    vf least = vf_set(-87.3f), x = vf_min(vf_set(89.f), vf_max(least, given));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504f)));
    vf r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_fma(vf_set(1.9875691500e-4f), r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_add(vf_fma(p, vf_mul(r, r), r), vf_set(1.f));
    return vf_less(given, least, vf_set(0.f), vf_scale2(p, n));
}

/* Below -86 the answer stays at e^-86, which is 0 to every sum that it meets. */
static inline vf vf_sigmoid(vf x) { return vf_recip(vf_add(vf_set(1.f), vf_exp(vf_min(vf_set(86.f), vf_sub(vf_set(0.f), x))))); }

/* Cephes' tanhf: odd polynomial below 0.625, else 1 - 2 / (e^2x + 1). */
static inline vf vf_tanh(vf x)
{
    vf z = vf_mul(x, x), a = vf_abs(x);
    vf p = vf_fma(vf_set(-5.70498872745e-3f), z, vf_set(2.06390887954e-2f));
    p = vf_fma(p, z, vf_set(-5.37397155531e-2f));
    p = vf_fma(p, z, vf_set(1.33314422036e-1f));
    p = vf_fma(p, z, vf_set(-3.33332819422e-1f));
    vf small = vf_fma(vf_mul(p, z), x, x);
    vf far = vf_recip(vf_add(vf_exp(vf_min(vf_set(80.f), vf_add(a, a))), vf_set(1.f))), big = vf_sub(vf_set(1.f), vf_add(far, far));
    return vf_less(a, vf_set(0.625f), small, vf_sign_of(big, x));
}

/* erfc(z) for z >= 0: Chebyshev fit of Press et al., Numerical Recipes, 6.2 (fractional error 1.2e-7 in
 * exact arithmetic), so that GELU keeps its relative precision in the left tail. */
static inline vf vf_erfc_pos(vf z)
{
    vf t = vf_recip(vf_fma(vf_set(0.5f), z, vf_set(1.f)));
    vf p = vf_fma(vf_set(0.17087277f), t, vf_set(-0.82215223f));
    p = vf_fma(p, t, vf_set(1.48851587f));
    p = vf_fma(p, t, vf_set(-1.13520398f));
    p = vf_fma(p, t, vf_set(0.27886807f));
    p = vf_fma(p, t, vf_set(-0.18628806f));
    p = vf_fma(p, t, vf_set(0.09678418f));
    p = vf_fma(p, t, vf_set(0.37409196f));
    p = vf_fma(p, t, vf_set(1.00002368f));
    p = vf_fma(p, t, vf_set(-1.26551223f));
    return vf_mul(t, vf_exp(vf_sub(p, vf_mul(z, z))));
}

#ifndef VF_HAS_GELU                                    /* math_avx512.h has its own */
static inline vf vf_gelu(vf x)                 /* x/2 (1 + erf(x / sqrt 2)) */
{
    vf half = vf_mul(vf_set(0.5f), vf_erfc_pos(vf_mul(vf_abs(x), vf_set(0.70710678f))));
    return vf_mul(x, vf_less(x, vf_set(0.f), half, vf_sub(vf_set(1.f), half)));
}

static inline vf vf_gelu_tanh(vf x)            /* x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) */
{
    vf u = vf_mul(x, vf_fma(vf_mul(x, x), vf_set(0.0356774081f), vf_set(0.797884561f)));
    return vf_mul(x, vf_sigmoid(vf_add(u, u)));
}
#endif

static inline vf vf_act(int kind, vf x)
{
    switch (kind) {
    case DAN_ACT_GELU: return vf_gelu(x);
    case DAN_ACT_GELU_TANH: return vf_gelu_tanh(x);
    case DAN_ACT_SILU: return vf_mul(x, vf_sigmoid(x));
    case DAN_ACT_RELU: return vf_max(x, vf_set(0.f));
    case DAN_ACT_TANH: return vf_tanh(x);
    case DAN_ACT_SIGMOID: return vf_sigmoid(x);
    default: return x;
    }
}

#endif
