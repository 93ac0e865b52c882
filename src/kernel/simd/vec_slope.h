/* Slopes of the activations of enum dan_act on vectors; after math_ISA.h.  For act_grad and the epilogue
 * "gate" of a product. */
#ifndef DAN_KERNEL_VEC_SLOPE_H
#define DAN_KERNEL_VEC_SLOPE_H

#ifdef __AVX512F__
#include "kernel/simd/slope_avx512.h"
#else
static inline vf vf_slope_gelu(vf x)           /* Phi(x) + x phi(x) */
{
    vf tail = vf_mul(vf_set(0.5f), vf_erfc_pos(vf_mul(vf_abs(x), vf_set(0.70710678f))));
    vf phi = vf_less(x, vf_set(0.f), tail, vf_sub(vf_set(1.f), tail));
    vf density = vf_mul(vf_set(0.39894228f), vf_exp(vf_mul(vf_set(-0.5f), vf_mul(x, x))));
    return vf_fma(x, density, phi);
}

static inline vf vf_slope_gelu_tanh(vf x)      /* x s(2u): s + x s (1 - s) 2u', u' = sqrt(2/pi) (1 + 3 0.044715 x^2) */
{
    vf xx = vf_mul(x, x), u = vf_mul(x, vf_fma(xx, vf_set(0.0356774081f), vf_set(0.797884561f)));
    vf s = vf_sigmoid(vf_add(u, u)), du = vf_fma(xx, vf_set(0.2140644486f), vf_set(1.595769122f));
    return vf_fma(vf_mul(vf_mul(x, s), vf_sub(vf_set(1.f), s)), du, s);
}
#endif

static inline vf vf_slope(int kind, vf x)
{
    vf s;
    switch (kind) {
    case DAN_ACT_GELU: return vf_slope_gelu(x);
    case DAN_ACT_GELU_TANH: return vf_slope_gelu_tanh(x);
    case DAN_ACT_SILU: s = vf_sigmoid(x); return vf_mul(s, vf_fma(x, vf_sub(vf_set(1.f), s), vf_set(1.f)));
    case DAN_ACT_RELU: return vf_less(vf_set(0.f), x, vf_set(1.f), vf_set(0.f));
    case DAN_ACT_TANH: s = vf_tanh(x); return vf_sub(vf_set(1.f), vf_mul(s, s));
    case DAN_ACT_SIGMOID: s = vf_sigmoid(x); return vf_mul(s, vf_sub(vf_set(1.f), s));
    default: return vf_set(1.f);
    }
}

#endif
