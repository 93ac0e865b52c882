#include "pass/fold.h"
#include <math.h>

double dan_fold_scale(const struct dan_channel *c, double eps) { return c->gamma / sqrt(c->var + eps); }

double dan_fold_bias(const struct dan_channel *c, double eps) { return (c->bias - c->mean) * dan_fold_scale(c, eps) + c->beta; }

void dan_fold_weights(double *w, double *bias, const struct dan_channel *c, int64_t o, int64_t n, double eps)
{
    for (int64_t i = 0; i < o; i++) {
        double scale = dan_fold_scale(&c[i], eps);
        for (int64_t k = 0; k < n; k++) w[i * n + k] *= scale;
        bias[i] = dan_fold_bias(&c[i], eps);
    }
}
