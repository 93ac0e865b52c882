#include "model/compressed.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "io/hf_rows.h"
#include "model/quantize_rows.h"
#include "model/row_scales.h"

static bool is_levels(const struct dan_dtype *t) { return t == &dan_dtype_i8 || (t->safetensors && !strcmp(t->safetensors, "F8_E4M3")); }

/* "a.b.weight" + "weight_scale" -> "a.b.weight_scale" */
static const char *sibling(const char *weight, const char *last, char out[DAN_ROW_NAME])
{
    const char *dot = strrchr(weight, '.');
    snprintf(out, DAN_ROW_NAME, "%.*s%s", dot ? (int)(dot + 1 - weight) : 0, weight, last);
    return out;
}

static const struct dan_tensor *find_sibling(const struct dan_store *file, const char *hf, const char *last)
{
    char name[DAN_ROW_NAME];
    return dan_store_find(file, sibling(hf, last, name));
}

bool dan_is_compressed(const struct dan_store *file, const char *hf)
{
    return is_levels(dan_store_find(file, hf)->dtype) && find_sibling(file, hf, "weight_scale");
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* Companion `last` as n numbers, one given for all spread; absent: what `to` holds. */
static int read_vector(const struct dan_source *src, const char *hf, const char *last, int64_t n, float *to, struct dan_err *e)
{
    const struct dan_tensor *t = find_sibling(src->file, hf, last);
    int64_t count = t ? dan_shape_count(&t->shape) : 0;
    if (!t) return DAN_OK;
    if ((count != n && count != 1) || !dan_tensor_contiguous(t) || t->dtype->block != 1 || !t->dtype->to_f32)
        return dan_fail(e, DAN_ESHAPE, "the '%s' of '%s' in '%s' has %lld numbers, its weights have %lld rows: only a scale per row or per tensor is supported",
                        last, hf, src->path, (long long)count, (long long)n);
    t->dtype->to_f32(t->data, to, count);
    for (int64_t i = count; i < n; i++) to[i] = to[0];
    return DAN_OK;
}

static int check_numbers(const char *hf, const char *last, const float *v, int64_t n, bool scale, struct dan_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        bool ok = scale ? v[i] > 0 && isfinite(v[i]) : v[i] == rintf(v[i]) && v[i] >= -128 && v[i] <= 127;
        if (!ok) return dan_fail(e, DAN_EFORMAT, "number %lld of the '%s' of '%s' is %g: expected %s", (long long)i, last, hf, (double)v[i],
                                 scale ? "a positive, finite scale" : "a whole number in -128..127");
    }
    return DAN_OK;
}

static int add_vector(struct dan_store *s, const char *name, int part, int64_t n, float **out, struct dan_err *e)
{
    char full[DAN_ROW_NAME];
    snprintf(full, sizeof full, "%s%s", name, dan_row_suffix[part]);
    int rc = dan_store_add(s, full, &dan_dtype_f32, DAN_SHAPE(n), e);
    if (!rc) *out = dan_store_find(s, full)->data;
    return rc;
}

static int take_companion(const struct dan_source *src, const char *hf, const char *last, struct dan_store *to, const char *name, int part,
                          int64_t n, struct dan_err *e)
{
    float *v = NULL;
    if (!find_sibling(src->file, hf, last)) return DAN_OK;
    int rc = add_vector(to, name, part, n, &v, e);
    if (!rc) rc = read_vector(src, hf, last, n, v, e);
    return rc ? rc : check_numbers(hf, last, v, n, part == DAN_ROW_SCALE, e);
}

/* Activations of fp8 weights stay float, so that an input scale of theirs is left out. */
static int take_input(const struct dan_source *src, const char *hf, struct dan_store *to, const char *name, struct dan_err *e)
{
    float pair[2] = {0}, *v = NULL;
    if (dan_store_find(src->file, hf)->dtype != &dan_dtype_i8 || !find_sibling(src->file, hf, "input_scale")) return DAN_OK;
    int rc = read_vector(src, hf, "input_scale", 1, pair, e);
    if (!rc) rc = read_vector(src, hf, "input_zero_point", 1, pair + 1, e);
    if (!rc) rc = check_numbers(hf, "input_scale", pair, 1, true, e);
    if (!rc) rc = check_numbers(hf, "input_zero_point", pair + 1, 1, false, e);
    if (!rc) rc = add_vector(to, name, DAN_ROW_INPUT, 2, &v, e);
    if (!rc) memcpy(v, pair, sizeof pair);
    return rc;
}

/* The numbers that levels stand for. */
static int take_numbers(struct dan_lm *lm, const char *name, const struct dan_tensor *t, const struct dan_store *parts, struct dan_err *e)
{
    const struct dan_tensor *scale = dan_row_part(parts, name, DAN_ROW_SCALE), *zero = dan_row_part(parts, name, DAN_ROW_ZERO);
    int rc = dan_store_add(lm->store, name, &dan_dtype_f32, t->shape, e);
    const struct dan_tensor *to = rc ? NULL : dan_store_find(lm->store, name);
    for (int64_t r = 0; !rc && r < dan_rows(t); r++) {
        float *w = dan_row(to, r), s = ((const float *)scale->data)[r], z = zero ? ((const float *)zero->data)[r] : 0;
        t->dtype->to_f32(dan_row(t, r), w, dan_cols(t));
        for (int64_t i = 0; i < dan_cols(t); i++) w[i] = s * (w[i] - z);
    }
    return rc;
}

int dan_take_compressed(struct dan_lm *lm, const char *name, const struct dan_source *src, const char *hf, struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(src->file, hf);
    struct dan_store *parts = NULL;
    int64_t n = t->shape.d[0];
    bool numbers = src->how == DAN_TAKE_F32;
    int rc = numbers ? dan_store_new(&parts, e) : DAN_OK;
    struct dan_store *to = numbers ? parts : lm->store;
    if (!rc) rc = take_companion(src, hf, "weight_scale", to, name, DAN_ROW_SCALE, n, e);
    if (!rc) rc = take_companion(src, hf, "weight_zero_point", to, name, DAN_ROW_ZERO, n, e);
    if (!rc && !numbers) rc = take_input(src, hf, to, name, e);
    if (!rc) rc = numbers ? take_numbers(lm, name, t, parts, e) : dan_store_share(lm->store, name, src->file, hf, e);
    dan_store_free(parts);
    return rc;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static int put(struct dan_store *into, const char *hf, const char *last, const struct dan_dtype *t, struct dan_shape s, const float *v, struct dan_err *e)
{
    char name[DAN_ROW_NAME];
    int rc = dan_store_add(into, sibling(hf, last, name), t, s, e);
    if (!rc) t->from_f32(v, dan_store_find(into, name)->data, dan_shape_count(&s));
    return rc;
}

int dan_put_compressed(const struct dan_lm *lm, const char *name, struct dan_store *into, struct dan_err *e)
{
    char base[DAN_ROW_NAME], hf[DAN_ROW_NAME];
    bool turn;
    int part = DAN_N_ROW_PARTS - 1;
    while (part > 0 && !dan_str_ends(name, dan_row_suffix[part])) part--;
    snprintf(base, sizeof base, "%.*s", (int)(strlen(name) - strlen(dan_row_suffix[part])), name);
    if (!dan_lm_hf_name(lm->model, base, hf, sizeof hf, &turn)) return DAN_OK;
    const struct dan_tensor *t = dan_store_find(lm->store, name);
    const float *v = t->data;
    struct dan_shape column = DAN_SHAPE(t->shape.d[0], 1);
    if (part == DAN_ROW_SCALE) return put(into, hf, "weight_scale", &dan_dtype_f32, column, v, e);
    if (part == DAN_ROW_ZERO) return put(into, hf, "weight_zero_point", &dan_dtype_i8, column, v, e);
    int rc = put(into, hf, "input_scale", &dan_dtype_f32, DAN_SHAPE(1), v, e);
    return rc || v[1] == 0 ? rc : put(into, hf, "input_zero_point", &dan_dtype_i8, DAN_SHAPE(1), v + 1, e);
}

/* Modules by kind; kind 0: neither. */
struct modules { char (*name)[DAN_ROW_NAME]; int *kind; size_t n; };
enum { IS_ROWS = 1, IS_FLOAT8 = 2, HAS_ZERO = 4, HAS_INPUT = 8, INPUT_ZERO = 16, N_KINDS = 32 };

static int kind_of(const struct dan_store *s, const char *name)
{
    const struct dan_tensor *in = dan_row_part(s, name, DAN_ROW_INPUT);
    if (!dan_has_row_scale(s, name)) return 0;
    int k = IS_ROWS | (dan_store_find(s, name)->dtype == &dan_dtype_i8 ? 0 : IS_FLOAT8) | (dan_row_part(s, name, DAN_ROW_ZERO) ? HAS_ZERO : 0);
    return k | (in ? HAS_INPUT : 0) | (in && ((const float *)in->data)[1] != 0 ? INPUT_ZERO : 0);
}

static void find_modules(const struct dan_lm *lm, struct modules *m)
{
    bool turn;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *name = dan_store_name(lm->store, i);
        char *hf = m->name[m->n];
        if (dan_store_at(lm->store, i)->shape.n != 2 || !dan_lm_hf_name(lm->model, name, hf, DAN_ROW_NAME, &turn) || !dan_str_ends(hf, ".weight")) continue;
        hf[strlen(hf) - strlen(".weight")] = 0;
        m->kind[m->n++] = kind_of(lm->store, name);
    }
    if (!lm->cfg.tied) return;
    snprintf(m->name[m->n], DAN_ROW_NAME, "lm_head");          /* a Linear to those who read the file, never quantised here */
    m->kind[m->n++] = 0;
}

static size_t pick_kind(const struct modules *m, int kind, const char **out)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->kind[i] == kind) out[n++] = m->name[i];
    return n;
}

/* One kind takes every Linear but those to be left alone; several name their modules. */
static int config_text(const struct modules *m, const char **names, struct dan_str *out, struct dan_err *e)
{
    static const char *const linear[] = {"Linear"};
    struct dan_hf_rows_group group[N_KINDS];
    size_t n_groups = 0, n_ignore = pick_kind(m, 0, names);
    const char **at = names + n_ignore;
    for (int k = 1; k < N_KINDS; k++) {
        size_t n = pick_kind(m, k, at);
        if (!n) continue;
        group[n_groups++] = (struct dan_hf_rows_group){k & IS_FLOAT8, k & HAS_ZERO, k & HAS_INPUT, k & INPUT_ZERO, at, n};
        at += n;
    }
    if (n_groups == 1) group[0].target = linear, group[0].n_targets = 1;
    return n_groups ? dan_hf_rows_text(group, n_groups, names, n_ignore, out, e) : DAN_OK;
}

int dan_compressed_config(const struct dan_lm *lm, struct dan_str *out, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store) + 1;
    struct modules m = {dan_calloc(n, sizeof *m.name), dan_calloc(n, sizeof *m.kind), 0};
    const char **names = dan_calloc(n, sizeof *names);
    int rc = m.name && m.kind && names ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory describing %zu tensors", n);
    if (!rc) find_modules(lm, &m);
    if (!rc) rc = config_text(&m, names, out, e);
    dan_free(m.name);
    dan_free(m.kind);
    dan_free(names);
    return rc;
}
