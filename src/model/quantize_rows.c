/* Matrices to int8 or fp8 levels with a scale per row. */
#include "model/quantize_rows.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "model/row_scales.h"
#include "model/score.h"

static const struct { const char *name, *to; bool asymmetric, per_tensor; } FORMATS[] = {
    {"int8", "i8", false, false}, {"int8_asym", "i8", true, false}, {"int8_tensor", "i8", false, true}, {"f8", "f8_e4m3", false, false},
};
enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

int dan_rows_format_find(const char *name, struct dan_rows_format *out, struct dan_err *e)
{
    struct dan_str list = {0};
    for (int i = 0; i < N_FORMATS; i++) {
        const struct dan_dtype *t = dan_dtype_find(FORMATS[i].to);
        if (!t) continue;
        dan_str_printf(&list, "%s%s", list.n ? ", " : "", FORMATS[i].name);
        if (strcmp(FORMATS[i].name, name)) continue;
        *out = (struct dan_rows_format){.to = t, .asymmetric = FORMATS[i].asymmetric, .per_tensor = FORMATS[i].per_tensor};
        dan_str_release(&list);
        return DAN_OK;
    }
    int rc = dan_fail(e, DAN_EINVAL, "unknown format '%s' with a scale per row; use one of: %s", name, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

/* ---- one row --------------------------------------------------------------------------------- */

/* Below this the reciprocal of a scale is no number any more. */
#define TINY 1e-30f

void dan_row_scale(const struct dan_rows_format *f, const float *w, int64_t n, float *scale, float *zero)
{
    float lo = 0, hi = 0, top = f->to == &dan_dtype_i8 ? 127.f : 448.f;
    for (int64_t i = 0; i < n; i++) {
        if (w[i] < lo) lo = w[i];
        if (w[i] > hi) hi = w[i];
    }
    *zero = 0;
    *scale = f->asymmetric ? hi / 255.f - lo / 255.f : (hi > -lo ? hi : -lo) / top;
    if (!(*scale > TINY)) *scale = 1;
    if (f->asymmetric) *zero = fminf(fmaxf(rintf(-128.f - lo / *scale), -128.f), 127.f) + 0.f;      /* no -0 */
}

void dan_row_levels(const struct dan_rows_format *f, const float *w, int64_t n, float scale, float zero, void *q)
{
    float least = f->asymmetric ? -128.f : -127.f;
    if (f->to != &dan_dtype_i8) {
        for (int64_t i = 0; i < n; i++) {
            float x = fminf(fmaxf(w[i] / scale, -448.f), 448.f);
            f->to->from_f32(&x, (char *)q + i * f->to->bytes, 1);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) ((int8_t *)q)[i] = (int8_t)fminf(fmaxf(rintf(w[i] / scale) + zero, least), 127.f);
}

/* ---- what may be replaced -------------------------------------------------------------------- */

static bool only_rows_are_read(const struct dan_graph *g, dan_ref param)
{
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == param && dan_op_is(&g->node[i], "embed")) return false;
    return dan_lm_only_products(g, param);
}

const char *dan_rows_why_not(const struct dan_lm *lm, const struct dan_graph *g, const char *name, const struct dan_rows_format *f)
{
    const struct dan_tensor *t = dan_store_find(lm->store, name);
    dan_ref param = dan_leaf(g, name);
    if (!t) return "not in the model";
    if (dan_is_row_companion(lm->store, name)) return "scales of another tensor";
    if (t->dtype->block > 1 || dan_has_row_scale(lm->store, name)) return "quantised already";
    if (t->dtype != &dan_dtype_f32 && t->dtype != &dan_dtype_bf16) return "neither f32 nor bf16";
    if (t->shape.n < 2) return "a vector";
    if (t->shape.n > 2) return "not a matrix";
    if (f->to != &dan_dtype_i8 && f->asymmetric) return "fp8 has no zero point";
    if (!param) return "read by no product alone";
    if (!dan_lm_only_products(g, param)) return "read by other operations than products";
    return only_rows_are_read(g, param) ? NULL : "an embedding table (or a head tied to it)";
}

static int check_replaceable(struct dan_lm *lm, const char *name, const struct dan_rows_format *f, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_io io = dan_lm_plain_io(lm);
    int rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    const char *why = rc ? NULL : dan_rows_why_not(lm, g, name, f);
    if (why) rc = dan_fail(e, DAN_EINVAL, "'%s' cannot have a scale per row: %s", name, why);
    if (!rc && dan_store_bound(lm->store, name, false))
        rc = dan_fail(e, DAN_EINVAL, "'%s' is in use by a program: quantise before running the model", name);
    dan_graph_free(g);
    return rc;
}

static int check_scales(const char *name, const float *scale, const float *zero, int64_t n, struct dan_err *e)
{
    for (int64_t r = 0; r < n; r++) {
        if (!(scale[r] > 0) || !isfinite(scale[r]))
            return dan_fail(e, DAN_EINVAL, "the scale of row %lld of '%s' is %g: it must be positive and finite", (long long)r, name, (double)scale[r]);
        if (zero && !(zero[r] == rintf(zero[r]) && fabsf(zero[r] + 0.5f) <= 127.5f))
            return dan_fail(e, DAN_EINVAL, "the zero of row %lld of '%s' is %g: it must be a whole number in -128..127", (long long)r, name, (double)zero[r]);
    }
    return DAN_OK;
}

/* ---- replacing ------------------------------------------------------------------------------- */

/* A matrix on its way into the store. */
struct rows { struct dan_store *tmp; struct dan_tensor q; float *scale, *zero; };

static int add_vector(struct dan_store *s, const char *name, int part, int64_t n, float **out, struct dan_err *e)
{
    char full[DAN_ROW_NAME];
    int len = snprintf(full, sizeof full, "%s%s", name, dan_row_suffix[part]);
    if (len >= (int)sizeof full) return dan_fail(e, DAN_EINVAL, "the name '%.60s...' is too long", name);
    int rc = dan_store_add(s, full, &dan_dtype_f32, DAN_SHAPE(n), e);
    if (!rc) *out = dan_store_find(s, full)->data;
    return rc;
}

static int rows_new(struct rows *r, const char *name, const struct dan_dtype *to, struct dan_shape shape, bool zero, struct dan_err *e)
{
    *r = (struct rows){0};
    int rc = dan_store_new(&r->tmp, e);
    if (!rc) rc = add_vector(r->tmp, name, DAN_ROW_SCALE, shape.d[0], &r->scale, e);
    if (!rc && zero) rc = add_vector(r->tmp, name, DAN_ROW_ZERO, shape.d[0], &r->zero, e);
    if (!rc) rc = dan_store_add(r->tmp, name, to, shape, e);
    if (!rc) r->q = *dan_store_find(r->tmp, name);
    return rc;
}

/* All of tmp into the store: the companions first, so that a failure leaves the matrix as it was. */
static int move_in(struct dan_store *s, const struct rows *r, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_store_count(r->tmp) && !rc; i++)
        rc = dan_store_share(s, dan_store_name(r->tmp, i), r->tmp, dan_store_name(r->tmp, i), e);
    return rc;
}

static int load_row(const struct dan_tensor *t, const char *name, int64_t r, float *w, struct dan_err *e)
{
    int64_t n = dan_cols(t);
    t->dtype->to_f32(dan_row(t, r), w, n);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(w[i]))
            return dan_fail(e, DAN_EINVAL, "row %lld of '%s' has a value that is no finite number: the weights are damaged, find out why before quantising",
                            (long long)r, name);
    return DAN_OK;
}

/* The largest range of all rows, as if they were one: from its two ends. */
static int scale_of_all(const struct dan_tensor *t, const char *name, const struct dan_rows_format *f, float *w, float *scale, float *zero,
                        struct dan_err *e)
{
    float ends[2] = {0, 0};
    for (int64_t r = 0; r < dan_rows(t); r++) {
        int rc = load_row(t, name, r, w, e);
        if (rc) return rc;
        for (int64_t i = 0; i < dan_cols(t); i++) {
            if (w[i] < ends[0]) ends[0] = w[i];
            if (w[i] > ends[1]) ends[1] = w[i];
        }
    }
    dan_row_scale(f, ends, 2, scale, zero);
    return DAN_OK;
}

static double row_error(const struct rows *r, int64_t row, const float *w, float *back, double *power)
{
    double error = 0;
    int64_t n = dan_cols(&r->q);
    r->q.dtype->to_f32(dan_row(&r->q, row), back, n);
    for (int64_t i = 0; i < n; i++) {
        double d = (double)r->scale[row] * ((double)back[i] - (r->zero ? (double)r->zero[row] : 0)) - (double)w[i];
        error += d * d;
        *power += (double)w[i] * (double)w[i];
    }
    return error;
}

/* w: room for two rows. */
static int fill(const struct dan_tensor *t, const char *name, const struct dan_rows_format *f, struct rows *r, float *w, double *error,
                struct dan_err *e)
{
    double wrong = 0, power = 0;
    float all = 0, all_zero = 0, zero = 0;
    int rc = f->per_tensor && !f->scale ? scale_of_all(t, name, f, w, &all, &all_zero, e) : DAN_OK;
    if (!rc && f->scale) rc = check_scales(name, f->scale, f->zero, dan_rows(t), e);
    for (int64_t i = 0; i < dan_rows(t) && !rc; i++) {
        rc = load_row(t, name, i, w, e);
        if (f->scale) r->scale[i] = f->scale[i], zero = f->zero ? f->zero[i] : 0;
        else if (f->per_tensor) r->scale[i] = all, zero = all_zero;
        else dan_row_scale(f, w, dan_cols(t), &r->scale[i], &zero);
        if (r->zero) r->zero[i] = zero;
        if (rc) break;
        dan_row_levels(f, w, dan_cols(t), r->scale[i], zero, dan_row(&r->q, i));
        wrong += row_error(r, i, w, w + dan_cols(t), &power);
    }
    if (error) *error = power > 0 ? sqrt(wrong / power) : 0;
    return rc;
}

int dan_lm_quantize_rows(struct dan_lm *lm, const char *name, const struct dan_rows_format *f, double *error, struct dan_err *e)
{
    struct rows r = {0};
    int rc = check_replaceable(lm, name, f, e);
    if (rc) return rc;
    const struct dan_tensor t = *dan_store_find(lm->store, name);
    float *w = dan_malloc(2 * sizeof *w * (size_t)(dan_cols(&t) + 1));
    rc = w ? rows_new(&r, name, f->to, t.shape, f->asymmetric, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to quantise '%s'", name);
    if (!rc) rc = fill(&t, name, f, &r, w, error, e);
    if (!rc) rc = move_in(lm->store, &r, e);
    dan_store_free(r.tmp);
    dan_free(w);
    return rc;
}

int dan_lm_put_rows(struct dan_lm *lm, const char *name, const struct dan_dtype *to, const void *levels, const float *scale,
                    const float *zero, struct dan_err *e)
{
    struct rows r = {0};
    int rc = check_replaceable(lm, name, &(struct dan_rows_format){.to = to, .asymmetric = zero != NULL}, e);
    if (rc) return rc;
    struct dan_shape shape = dan_store_find(lm->store, name)->shape;
    rc = check_scales(name, scale, zero, shape.d[0], e);
    if (!rc) rc = rows_new(&r, name, to, shape, zero != NULL, e);
    if (!rc) {
        memcpy(r.q.data, levels, dan_tensor_bytes(&r.q));
        memcpy(r.scale, scale, sizeof *scale * (size_t)shape.d[0]);
        if (zero) memcpy(r.zero, zero, sizeof *zero * (size_t)shape.d[0]);
        rc = move_in(lm->store, &r, e);
    }
    dan_store_free(r.tmp);
    return rc;
}

int dan_lm_set_input_scale(struct dan_lm *lm, const char *name, float scale, float zero, struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(lm->store, name);
    if (!t || t->dtype != &dan_dtype_i8 || !dan_has_row_scale(lm->store, name))
        return dan_fail(e, DAN_EINVAL, "'%s' has no int8 levels with a scale per row: quantise it before its input", name);
    int rc = check_scales(name, &scale, &zero, 1, e);
    const struct dan_tensor *old = dan_row_part(lm->store, name, DAN_ROW_INPUT);
    float *pair = old ? old->data : NULL;
    if (!rc && !pair) rc = add_vector(lm->store, name, DAN_ROW_INPUT, 2, &pair, e);
    if (rc) return rc;
    pair[0] = scale;
    pair[1] = zero;
    return DAN_OK;
}
