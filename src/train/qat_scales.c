/* Scales of weights: as params beside them, and their first values. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "op/fake_quant.h"
#include "train/qat.h"

/* One part of a param's name, "W.step": a zeroed tensor with a row for every row of W, or as declared. */
static int add_part(struct dan_store *s, const struct dan_node *n, const char *name, size_t len, struct dan_err *e)
{
    char part[256], of[256];
    size_t base = dan_quant_stem(name, len);
    if (!base || len >= sizeof part) return dan_fail(e, DAN_EINVAL, "the weights have no tensor '%.*s'", (int)len, name);
    snprintf(part, sizeof part, "%.*s", (int)len, name);
    snprintf(of, sizeof of, "%.*s", (int)base, name);
    const struct dan_tensor *w = dan_store_find(s, of);
    struct dan_shape shape = n->shape;
    if (!w) return dan_fail(e, DAN_EINVAL, "the weights have no tensor '%s'", of);
    if (shape.n == 2) shape.d[0] = w->shape.d[0];
    return dan_store_find(s, part) ? DAN_OK : dan_store_add(s, part, n->dtype, shape, e);
}

int dan_qat_add_params(const struct dan_graph *g, struct dan_store *s, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "param") || dan_store_find(s, n->name) || !dan_qat_is_param(n->name)) continue;
        for (const char *p = n->name; *p && !rc;) {
            size_t len = strcspn(p, "+");
            rc = add_part(s, n, p, len, e);
            p += len + (p[len] == '+');
        }
    }
    return rc;
}

/* ---- first values -------------------------------------------------------------------------- */

static double group_error(const float *x, int64_t n, double s, double lo, double hi)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double q = nearbyint(x[i] / s), d = x[i] - s * (q < lo ? lo : q > hi ? hi : q);
        sum += d * d;
    }
    return sum;
}

enum { TRIES = 64 };

/* The used (rounded) scale is what is judged. */
static float best_of_group(const float *x, int64_t n, struct dan_quant_grid q)
{
    double top = 0, lo = (double)dan_quant_lo(q.bits, q.form), hi = (double)dan_quant_hi(q.bits), best = INFINITY;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)x[i]));
    float at = dan_quant_scale((float)(top / hi), q.form);
    for (int k = 0; k < TRIES && top > 0; k++) {
        float s = dan_quant_scale((float)(top / hi * (1 - 0.75 * k / TRIES)), q.form);
        double err = group_error(x, n, (double)s, lo, hi);
        if (err < best) at = s;
        if (err < best) best = err;
    }
    return at;
}

static void init_steps(const struct dan_tensor *w, const struct dan_tensor *step, struct dan_quant_grid q)
{
    int64_t groups = dan_cols(step), n = dan_cols(w) / groups;
    for (int64_t r = 0; r < dan_rows(w); r++)
        for (int64_t g = 0; g < groups; g++)
            ((float *)dan_row(step, r))[g] = best_of_group((const float *)dan_row(w, r) + g * n, n, q);
}

int dan_qat_init_weights(struct dan_store *s, const struct dan_quant_policy *p, struct dan_err *e)
{
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const char *name = dan_store_name(s, i);
        char of[256];
        size_t base = strchr(name, '+') ? 0 : dan_quant_stem(name, strlen(name));
        struct dan_tensor *t = dan_store_at(s, i);
        if (!base || base >= sizeof of || strcmp(name + base, ".input_step") == 0) continue;
        if (strcmp(name + base, ".slope") == 0) {
            *(float *)t->data = (float)p->slope;
            continue;
        }
        snprintf(of, sizeof of, "%.*s", (int)base, name);
        const struct dan_tensor *w = dan_store_find(s, of);
        if (!w || w->dtype != &dan_dtype_f32) return dan_fail(e, DAN_EINVAL, "the weights have no tensor '%s' in f32", of);
        init_steps(w, t, dan_quant_weight_grid(p));
    }
    return DAN_OK;
}

float dan_qat_best_step(const double *count, int n, double width, int64_t hi)
{
    double best = INFINITY, top = n * width, at = top / (double)hi;
    for (int k = 0; k < 4 * TRIES; k++) {
        double s = top / (double)hi * (1 - (double)k / (4 * TRIES)), err = 0;
        for (int i = 0; i < n; i++) {
            double x = (i + 0.5) * width, q = nearbyint(x / s), d = x - s * (q > (double)hi ? (double)hi : q);
            err += count[i] * d * d;
        }
        if (err < best) at = s;
        if (err < best) best = err;
    }
    return (float)at;
}

int dan_qat_copy(const struct dan_lm *from, struct dan_lm *out, struct dan_err *e)
{
    struct dan_lm lm = {.model = from->model, .cfg = from->cfg};
    int rc = dan_store_new(&lm.store, e);
    for (size_t i = 0; i < dan_store_count(from->store) && !rc; i++) {
        const char *name = dan_store_name(from->store, i);
        const struct dan_tensor *t = dan_store_at(from->store, i);
        if (strchr(name, '+') || dan_qat_is_param(name)) continue;
        rc = dan_store_add(lm.store, name, t->dtype, t->shape, e);
        size_t row = dan_dtype_bytes(t->dtype, dan_cols(t));
        char *to = rc ? NULL : dan_store_find(lm.store, name)->data;
        for (int64_t r = 0; r < dan_rows(t) && !rc; r++) memcpy(to + (size_t)r * row, dan_row(t, r), row);
    }
    if (rc) dan_lm_release(&lm);
    else *out = lm;
    return rc;
}
