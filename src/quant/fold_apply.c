/* Scales into weights. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "quant/equalise.h"

/* Part of a joined tensor "a+b+c" that a program made: changing it alone would leave the other stale. */
static bool is_joined(const struct dan_store *s, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < dan_store_count(s); i++)
        for (const char *p = strchr(dan_store_name(s, i), '+') ? dan_store_name(s, i) : ""; *p;) {
            size_t len = strcspn(p, "+");
            if (len == n && !memcmp(p, name, n)) return true;
            p += len + (p[len] == '+');
        }
    return false;
}

static int check(const struct dan_lm *lm, const char *name, struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(lm->store, name);
    if (!t) return dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'", name);
    if (t->dtype != &dan_dtype_f32 && t->dtype != &dan_dtype_bf16 && t->dtype != &dan_dtype_f16)
        return dan_fail(e, DAN_EINVAL, "'%s' is quantised already (%s); equalise the float model", name, t->dtype->name);
    if (is_joined(lm->store, name))
        return dan_fail(e, DAN_EINVAL, "'%s' was joined with others by a program that ran on this model; load the model again to equalise it", name);
    return DAN_OK;
}

/* A copy in f32 that belongs to the store alone takes the tensor's place; *w is its elements. */
static int own(struct dan_lm *lm, const char *name, float **w, struct dan_err *e)
{
    struct dan_store *tmp = NULL;
    const struct dan_tensor from = *dan_store_find(lm->store, name);
    int rc = dan_store_new(&tmp, e);
    if (!rc) rc = dan_store_add(tmp, name, &dan_dtype_f32, from.shape, e);
    if (!rc) {
        const struct dan_tensor *to = dan_store_find(tmp, name);
        for (int64_t r = 0; r < dan_rows(&from); r++) from.dtype->to_f32(dan_row(&from, r), dan_row(to, r), dan_cols(&from));
        *w = to->data;
        rc = dan_store_share(lm->store, name, tmp, name, e);
    }
    dan_store_free(tmp);
    return rc;
}

static int scale_columns(struct dan_lm *lm, const char *name, const float *s, int64_t k, struct dan_err *e)
{
    float *w;
    int rc = own(lm, name, &w, e);
    if (rc) return rc;
    int64_t n = dan_shape_count(&dan_store_find(lm->store, name)->shape);
    for (int64_t i = 0; i < n; i++) w[i] *= s[i % k];
    return DAN_OK;
}

static int divide_norm(struct dan_lm *lm, const struct dan_fold *f, const float *s, struct dan_err *e)
{
    float *gain, *bias = NULL;
    int rc = own(lm, f->from, &gain, e);
    if (!rc && f->from_bias) rc = own(lm, f->from_bias, &bias, e);
    for (int64_t j = 0; j < f->k && !rc; j++) {
        gain[j] = f->plus ? (1 + gain[j]) / s[j] - 1 : gain[j] / s[j];
        if (bias) bias[j] /= s[j];
    }
    return rc;
}

/* The channel of x whose scale row r of the product before has: heads that share a value head share it. */
static int64_t channel_of(const struct dan_fold *f, int64_t r)
{
    if (f->kind != DAN_FOLD_VALUE) return r;
    return r / f->head_dim * (f->heads / f->kv_heads) * f->head_dim + r % f->head_dim;
}

static int divide_rows(struct dan_lm *lm, const struct dan_fold *f, const float *s, struct dan_err *e)
{
    float *w, *bias = NULL;
    int64_t rows = f->kind == DAN_FOLD_VALUE ? f->kv_heads * f->head_dim : f->k;
    int rc = own(lm, f->from, &w, e);
    if (!rc && f->from_bias) rc = own(lm, f->from_bias, &bias, e);
    if (rc) return rc;
    int64_t cols = dan_cols(dan_store_find(lm->store, f->from));
    for (int64_t r = 0; r < rows; r++) {
        float by = s[channel_of(f, r)];
        for (int64_t c = 0; c < cols; c++) w[(f->row0 + r) * cols + c] /= by;
        if (bias) bias[f->row0 + r] /= by;
    }
    return DAN_OK;
}

static int check_fold(const struct dan_lm *lm, const struct dan_fold *f, const float *s, struct dan_err *e)
{
    if (f->why_not[0]) return dan_fail(e, DAN_EINVAL, "'%s' takes no scales: %s", f->to[0], f->why_not);
    for (int64_t j = 0; j < f->k; j++)
        if (!(s[j] > 0) || !isfinite(s[j]))
            return dan_fail(e, DAN_EINVAL, "scale %g of channel %lld of '%s' is not above 0 and finite", (double)s[j], (long long)j, f->to[0]);
    int rc = check(lm, f->from, e);
    if (!rc && f->from_bias) rc = check(lm, f->from_bias, e);
    for (int i = 0; i < f->n_to && !rc; i++) rc = check(lm, f->to[i], e);
    return rc;
}

int dan_fold_apply(struct dan_lm *lm, const struct dan_fold *f, const float *s, struct dan_err *e)
{
    int rc = check_fold(lm, f, s, e);
    if (!rc) rc = f->kind == DAN_FOLD_NORM ? divide_norm(lm, f, s, e) : divide_rows(lm, f, s, e);
    for (int i = 0; i < f->n_to && !rc; i++) rc = scale_columns(lm, f->to[i], s, f->k, e);
    return rc;
}

int dan_quant_inject_outlier(struct dan_lm *lm, int64_t channel, double factor, size_t *n, struct dan_err *e)
{
    struct dan_folds list;
    size_t done = 0;
    int rc = dan_folds_new(lm, &list, e);
    if (rc) return rc;
    if (channel < 0 || channel >= lm->cfg.hidden || !(factor > 0) || !isfinite(factor))
        rc = dan_fail(e, DAN_EINVAL, "channel %lld by %g cannot be; channels are 0 to %lld, the factor is above 0", (long long)channel, factor,
                      (long long)lm->cfg.hidden - 1);
    float *s = dan_malloc((size_t)lm->cfg.hidden * sizeof *s);
    if (!s && !rc) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for %lld scales", (long long)lm->cfg.hidden);
    for (size_t i = 0; i < list.n && !rc; i++) {
        if (list.v[i].kind != DAN_FOLD_NORM || list.v[i].why_not[0] || list.v[i].k != lm->cfg.hidden) continue;
        for (int64_t j = 0; j < lm->cfg.hidden; j++) s[j] = j == channel ? (float)(1 / factor) : 1;
        rc = dan_fold_apply(lm, &list.v[i], s, e);
        done++;
    }
    if (!rc && done == 0) rc = dan_fail(e, DAN_EUNSUPPORTED, "no norm of a '%s' can be scaled", lm->model->name);
    if (n) *n = done;
    dan_free(s);
    dan_folds_release(&list);
    return rc;
}
