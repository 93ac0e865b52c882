/* AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW:
 *   w -= lr wd w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   w -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps) */
#include <math.h>
#include "train/optim.h"

DAN_INLINE void step_all(float *restrict w, const float *restrict g, float *const *slot, int64_t n, const struct dan_optim_args *a)
{
    float *restrict m = slot[0], *restrict v = slot[1];
    const float b1 = (float)a->beta1, b2 = (float)a->beta2, c1 = (float)(1 - a->beta1), c2 = (float)(1 - a->beta2);
    const float decay = (float)(1 - a->lr * a->weight_decay), scale = (float)a->grad_scale, eps = (float)a->eps;
    const float step = (float)(a->lr / (1 - pow(a->beta1, (double)a->step)));
    const float inv = (float)(1 / sqrt(1 - pow(a->beta2, (double)a->step)));
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        m[i] = b1 * m[i] + c1 * gi;
        v[i] = b2 * v[i] + c2 * (gi * gi);
        w[i] = w[i] * decay - step * m[i] / (sqrtf(v[i]) * inv + eps);
    }
}

static void update(float *w, const float *g, float *const *slot, int64_t n, const struct dan_optim_args *a) { step_all(w, g, slot, n, a); }
DAN_FOR_AVX2 static void update_avx2(float *w, const float *g, float *const *slot, int64_t n, const struct dan_optim_args *a)
{
    step_all(w, g, slot, n, a);
}

const struct dan_optim dan_optim_adamw = {"adamw", "Adam with decoupled weight decay", 2, {"m", "v"}, update, update_avx2};
