/* Linear layers and norms. */
#include <math.h>
#include <stdio.h>
#include "nn/nn.h"

dan_ref dan_nn_linear(struct dan_builder *b, dan_ref x, const char *name, int64_t n_in, int64_t n_out, bool bias, double std)
{
    char weight[128], init[48];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(init, sizeof init, "normal:%.9g", std);
    dan_ref w = dan_param(b, weight, &dan_dtype_f32, DAN_SHAPE(n_out, n_in), init), c = 0;
    if (bias) {
        snprintf(weight, sizeof weight, "%s.bias", name);
        c = dan_param(b, weight, &dan_dtype_f32, DAN_SHAPE(n_out), "zeros");
    }
    return dan_linear(b, x, w, c);
}

static dan_ref vector(struct dan_builder *b, const char *name, const char *part, int64_t n, const char *init)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", name, part);
    return dan_param(b, full, &dan_dtype_f32, DAN_SHAPE(n), init);
}

dan_ref dan_nn_layer_norm(struct dan_builder *b, dan_ref x, const char *name, int64_t n, bool bias, double eps)
{
    dan_ref g = vector(b, name, "weight", n, "ones");
    return dan_layer_norm(b, x, g, bias ? vector(b, name, "bias", n, "zeros") : 0, eps);
}

dan_ref dan_nn_rms_norm(struct dan_builder *b, dan_ref x, const char *name, int64_t n, double eps)
{
    return dan_rms_norm(b, x, vector(b, name, "weight", n, "ones"), eps);
}

dan_ref dan_nn_norm(struct dan_builder *b, const struct dan_lm_config *c, dan_ref x, const char *name, int64_t n)
{
    if (!c->norm_plus) return dan_nn_rms_norm(b, x, name, n, c->norm_eps);
    dan_ref w = vector(b, name, "weight", n, "zeros");
    return dan_rms_norm(b, x, dan_add(b, w, dan_fill_like(b, w, 1)), c->norm_eps);
}

double dan_nn_residual_std(const struct dan_lm_config *c) { return c->init_std / sqrt(2.0 * (double)c->layers); }
