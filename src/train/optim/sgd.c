/* SGD with momentum, as torch.optim.SGD (dampening 0) with decoupled weight decay:
 *   buf = mu buf + g;  w -= lr wd w;  w -= lr (nesterov ? g + mu buf : buf)
 * torch's first step sets buf = g, which zeros give too. */
#include "train/optim.h"

DAN_INLINE void step_all(float *restrict w, const float *restrict g, float *const *slot, int64_t n, const struct dan_optim_args *a)
{
    float *restrict buf = slot[0];
    const float lr = (float)a->lr, mu = (float)a->momentum, decay = (float)(1 - a->lr * a->weight_decay), scale = (float)a->grad_scale;
    const float take_g = a->nesterov ? 1.0f : 0.0f, take_buf = a->nesterov ? mu : 1.0f;
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        buf[i] = mu * buf[i] + gi;
        w[i] = w[i] * decay - lr * (take_g * gi + take_buf * buf[i]);
    }
}

static void update(float *w, const float *g, float *const *slot, int64_t n, const struct dan_optim_args *a) { step_all(w, g, slot, n, a); }
DAN_FOR_AVX2 static void update_avx2(float *w, const float *g, float *const *slot, int64_t n, const struct dan_optim_args *a)
{
    step_all(w, g, slot, n, a);
}

const struct dan_optim dan_optim_sgd = {
    "sgd", "gradient descent with momentum (0 = plain), Nesterov optional", 1, {"buf"}, update, update_avx2};
