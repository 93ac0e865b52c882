/* Folding a per-channel affine normalisation with frozen statistics into the product or convolution before it:
 *   ((w x + b) - mean) / sqrt(var + eps) * gamma + beta  =  w' x + b'
 *   scale = gamma / sqrt(var + eps),  w' = scale w,  b' = (b - mean) scale + beta          (Ioffe, Szegedy 2015, section 3.1)
 * Equal in real numbers; other weights are stored (class E2). */
#ifndef DAN_PASS_FOLD_H
#define DAN_PASS_FOLD_H
#include <stdint.h>

/* What one output channel goes through; without bias 0, without gamma 1, without beta 0. */
struct dan_channel { double bias, mean, var, gamma, beta; };
double dan_fold_scale(const struct dan_channel *c, double eps);
double dan_fold_bias(const struct dan_channel *c, double eps);
/* w [O, n] in place, n = inputs of a linear layer or I*kh*kw of a convolution; bias [O] is written.  c [O]. */
void dan_fold_weights(double *w, double *bias, const struct dan_channel *c, int64_t o, int64_t n, double eps);

/* The folded tensors are params whose names say how they are made; the store makes them when a program is bound
 * (exec/store_fold.c):  fold.weight:W|b|mean|var|gamma|beta|eps   and   fold.bias:...   "" for what is absent. */
enum dan_fold_part { DAN_FOLD_W, DAN_FOLD_B, DAN_FOLD_MEAN, DAN_FOLD_VAR, DAN_FOLD_GAMMA, DAN_FOLD_BETA, DAN_FOLD_PARTS };
#define DAN_FOLD_WEIGHT "fold.weight:"
#define DAN_FOLD_BIAS "fold.bias:"

#endif
