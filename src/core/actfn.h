/* Activation functions and their slopes for the type `real`, by enum dan_act.  Include after
 * op/op.h (it gives `real` and the enum).  Computed in double and rounded once: these are the
 * references, vector kernels have their own.
 *
 *   gelu       x Phi(x), Phi the normal distribution function            (Hendrycks, Gimpel 2016)
 *   gelu_tanh  x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))             (same, GPT-2's form)
 *   silu       x sigma(x), sigma(x) = 1 / (1 + e^-x)
 */
#ifndef DAN_CORE_ACTFN_H
#define DAN_CORE_ACTFN_H
#include <math.h>

static inline double act_sigma(double x) { return 1 / (1 + exp(-x)); }
static inline double act_phi(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }    /* erfc: exact in the left tail */

static inline double act_none(double x) { return x; }
static inline double act_gelu(double x) { return x * act_phi(x); }
static inline double act_gelu_tanh(double x) { return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))); }
static inline double act_silu(double x) { return x * act_sigma(x); }
static inline double act_relu(double x) { return x > 0 ? x : 0; }
static inline double act_tanh(double x) { return tanh(x); }

static inline double act_none_slope(double x) { (void)x; return 1; }
static inline double act_gelu_slope(double x) { return act_phi(x) + x * 0.39894228040143267794 * exp(-0.5 * x * x); }
static inline double act_gelu_tanh_slope(double x)
{
    double t = tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x);
}
static inline double act_silu_slope(double x) { double s = act_sigma(x); return s * (1 + x * (1 - s)); }
static inline double act_relu_slope(double x) { return x > 0; }                               /* 0 at the kink */
static inline double act_tanh_slope(double x) { double t = tanh(x); return 1 - t * t; }
static inline double act_sigma_slope(double x) { double s = act_sigma(x); return s * (1 - s); }

struct act_fn { double (*value)(double), (*slope)(double); };
static const struct act_fn act_fns[DAN_N_ACTS] = {
    [DAN_ACT_NONE] = {act_none, act_none_slope},
    [DAN_ACT_GELU] = {act_gelu, act_gelu_slope},
    [DAN_ACT_GELU_TANH] = {act_gelu_tanh, act_gelu_tanh_slope},
    [DAN_ACT_SILU] = {act_silu, act_silu_slope},
    [DAN_ACT_RELU] = {act_relu, act_relu_slope},
    [DAN_ACT_TANH] = {act_tanh, act_tanh_slope},
    [DAN_ACT_SIGMOID] = {act_sigma, act_sigma_slope},
};

static inline real act_value(int64_t kind, real x) { return (real)act_fns[kind].value((double)x); }
static inline real act_slope(int64_t kind, real x) { return (real)act_fns[kind].slope((double)x); }

#endif
