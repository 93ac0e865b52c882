/* Scalar functions of alignment losses, exact in the tails. */
#ifndef DAN_ALIGN_SCALAR_H
#define DAN_ALIGN_SCALAR_H
#include <math.h>

static inline double dan_sigmoid(double x)
{
    if (x >= 0) return 1 / (1 + exp(-x));
    double t = exp(x);
    return t / (1 + t);
}

/* ln sigmoid(x) */
static inline double dan_log_sigmoid(double x) { return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x)); }

/* ln(1 - e^x), x < 0: Maechler 2012 */
static inline double dan_log1m_exp(double x) { return x > -M_LN2 ? log(-expm1(x)) : log1p(-exp(x)); }

static inline double dan_clamp(double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }

#endif
