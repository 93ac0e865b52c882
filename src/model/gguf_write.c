/* A model as a GGUF file: the family's config as keys, its params as tensors with the layout that llama.cpp wants. */
#include "model/gguf_write.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "model/files_impl.h"
#include "model/quantize.h"
#include "model/quantize_rows.h"

/* general.file_type: ggml's number for what most tensors are (llama.h, enum llama_ftype). */
static const struct { const char *dtype; uint32_t file_type; } file_types[] = {
    {"f32", 0}, {"f16", 1}, {"q4_0", 2}, {"q4_1", 3}, {"q8_0", 7}, {"q5_0", 8}, {"q5_1", 9}, {"q2_k", 10}, {"q3_k", 11}, {"q4_k", 14},
    {"q5_k", 16}, {"q6_k", 18}, {"iq4_nl", 25}, {"bf16", 32},
};

static const struct dan_dtype *format_of(const struct dan_lm *lm)
{
    const struct dan_tensor *t = dan_store_find(lm->store, "blk.0.ffn_down.weight");
    for (size_t i = 0; !t && i < dan_store_count(lm->store); i++)
        if (dan_store_at(lm->store, i)->shape.n >= 2) t = dan_store_at(lm->store, i);
    return t ? t->dtype : &dan_dtype_f32;
}

static void put_format(const struct dan_lm *lm, struct dan_gguf_out *o)
{
    const struct dan_dtype *t = format_of(lm);
    for (size_t i = 0; i < sizeof file_types / sizeof file_types[0]; i++)
        if (!strcmp(file_types[i].dtype, t->name)) dan_gguf_out_u32(o, "general.file_type", file_types[i].file_type);
    if (t->block > 1) dan_gguf_out_u32(o, "general.quantization_version", 2);
}

static int put_field(const struct dan_lm *lm, const struct dan_field *f, struct dan_gguf_out *o, struct dan_err *e)
{
    char key[160];
    const void *at = (const char *)&lm->cfg + f->offset;
    int64_t i;
    double d;
    bool b;
    snprintf(key, sizeof key, "%s.%.*s", lm->model->gguf_arch, (int)strcspn(f->hf, "|"), f->hf);
    if (f->type == 'f') memcpy(&d, at, sizeof d), dan_gguf_out_f32(o, key, (float)d);
    else if (f->type == 'b') memcpy(&b, at, sizeof b), dan_gguf_out_bool(o, key, b);
    else {
        memcpy(&i, at, sizeof i);
        if (i < 0 || i > UINT32_MAX) return dan_fail(e, DAN_EUNSUPPORTED, "GGUF cannot hold %lld as '%s'", (long long)i, key);
        dan_gguf_out_u32(o, key, (uint32_t)i);
    }
    return DAN_OK;
}

static void put_scaling_number(const struct dan_lm *lm, const char *name, double v, struct dan_gguf_out *o)
{
    char key[160];
    snprintf(key, sizeof key, "%s.rope.%s", lm->model->gguf_arch, name);
    dan_gguf_out_f32(o, key, (float)v);
}

static int put_rope(const struct dan_lm *lm, struct dan_gguf_out *o, struct dan_err *e)
{
    static const char *const types[DAN_N_ROPE_KINDS] = {[DAN_ROPE_LINEAR] = "linear", [DAN_ROPE_YARN] = "yarn"};
    const struct dan_rope *r = &lm->cfg.rope;
    char key[160];
    if (!(r->base > 0)) return DAN_OK;         /* learned positions */
    snprintf(key, sizeof key, "%s.rope.dimension_count", lm->model->gguf_arch);
    dan_gguf_out_u32(o, key, (uint32_t)r->dim);
    if (r->kind == DAN_ROPE_PLAIN || r->kind == DAN_ROPE_LLAMA3) return DAN_OK;
    if (!types[r->kind]) return dan_fail(e, DAN_EUNSUPPORTED, "GGUF has no name for this model's scaling of positions (dynamic, or yarn without truncation)");
    snprintf(key, sizeof key, "%s.rope.scaling.type", lm->model->gguf_arch);
    dan_gguf_out_string(o, key, types[r->kind], strlen(types[r->kind]));
    put_scaling_number(lm, "scaling.factor", r->factor, o);
    if (r->kind != DAN_ROPE_YARN) return DAN_OK;
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", lm->model->gguf_arch);
    dan_gguf_out_u32(o, key, (uint32_t)r->original);
    double by = r->by / (r->factor > 1 ? 0.1 * log(r->factor) + 1 : 1);
    if (fabs(by - 1) > 1e-6) put_scaling_number(lm, "scaling.attn_factor", by, o);
    if (r->high != 32) put_scaling_number(lm, "scaling.yarn_beta_fast", r->high, o);
    if (r->low != 1) put_scaling_number(lm, "scaling.yarn_beta_slow", r->low, o);
    return DAN_OK;
}

/* Llama 3: what divides each frequency, as a tensor. */
static int make_factors(const struct dan_lm *lm, struct dan_store *made, struct dan_err *e)
{
    struct dan_rope plain = lm->cfg.rope;
    plain.kind = DAN_ROPE_PLAIN;
    int rc = dan_store_add(made, "rope_freqs.weight", &dan_dtype_f32, DAN_SHAPE(plain.dim / 2), e);
    if (rc) return rc;
    float *f = dan_store_find(made, "rope_freqs.weight")->data;
    for (int64_t i = 0; i < plain.dim / 2; i++) f[i] = (float)(dan_rope_frequency(&plain, i, 0) / dan_rope_frequency(&lm->cfg.rope, i, 0));
    return DAN_OK;
}

int dan_lm_gguf_keys(const struct dan_lm *lm, struct dan_gguf_out *o, struct dan_err *e)
{
    const struct dan_model *m = lm->model;
    char key[160];
    int rc = DAN_OK;
    if (!m->gguf_arch)
        return dan_fail(e, DAN_EUNSUPPORTED, "the family '%s' has no GGUF form: save it as a folder", m->name);
    if (lm->cfg.query_scale > 0 && lm->cfg.query_scale != lm->cfg.head_dim)
        return dan_fail(e, DAN_EUNSUPPORTED, "GGUF has no key for query_pre_attn_scalar %lld, and its readers take the head dim %lld: save it as a folder",
                        (long long)lm->cfg.query_scale, (long long)lm->cfg.head_dim);
    if (lm->cfg.score || lm->cfg.no_lm_head) return dan_fail(e, DAN_EUNSUPPORTED, "GGUF has no place for a score head: save it as a folder");
    dan_gguf_out_string(o, "general.architecture", m->gguf_arch, strlen(m->gguf_arch));
    dan_gguf_out_string(o, "general.type", "model", 5);
    put_format(lm, o);
    for (const struct dan_field *f = m->gguf; f->hf && !rc; f++) rc = put_field(lm, f, o, e);
    snprintf(key, sizeof key, "%s.vocab_size", m->gguf_arch);
    dan_gguf_out_u32(o, key, (uint32_t)lm->cfg.vocab);
    snprintf(key, sizeof key, "%s.attention.value_length", m->gguf_arch);
    dan_gguf_out_u32(o, key, (uint32_t)lm->cfg.head_dim);
    snprintf(key, sizeof key, "%s.attention.sliding_window", m->gguf_arch);
    if (lm->cfg.window.width > 0) dan_gguf_out_u32(o, key, (uint32_t)lm->cfg.window.width);
    return rc ? rc : put_rope(lm, o, e);
}

static int64_t head_rows(const struct dan_lm *lm, const char *name, const struct dan_tensor *t)
{
    int64_t heads = strstr(name, "attn_k.") ? lm->cfg.kv_heads : lm->cfg.heads;
    return heads > 0 ? t->shape.d[0] / heads : t->shape.d[0];
}

static int check_no_scale(const struct dan_lm *lm, const char *name, struct dan_err *e)
{
    if (!dan_has_row_scale(lm->store, name)) return DAN_OK;
    return dan_fail(e, DAN_EUNSUPPORTED, "'%s' has a scale per row, which neither GGUF nor another type can hold: convert the model that it was quantised from", name);
}

/* The tensor as the file has it; `made` owns what differs from lm's. */
static int lay_out(const struct dan_lm *lm, const char *name, const struct dan_tensor *t, struct dan_store *made, const struct dan_tensor **out,
                   struct dan_err *e)
{
    struct dan_edit edit = {0};
    *out = t;
    int rc = check_no_scale(lm, name, e);
    if (rc) return rc;
    if (lm->model->gguf_pairs && dan_is_rotary(name)) {
        edit.row = dan_row_of_halves;
        edit.d = head_rows(lm, name, t);
    }
    if (lm->model->gguf_norm_plus && dan_is_norm(name)) edit.plus = 1;
    if (!edit.row && edit.plus == 0) return DAN_OK;
    rc = dan_copy_edited(made, name, t, &edit, e);
    if (!rc) *out = dan_store_find(made, name);
    return rc;
}

int dan_lm_save_gguf(const struct dan_lm *lm, struct dan_gguf_out *o, const char *path, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store);
    bool factors = lm->cfg.rope.kind == DAN_ROPE_LLAMA3;
    struct dan_gguf_named *list = dan_calloc(n + 2, sizeof *list);
    struct dan_store *made = NULL;
    int rc = list ? dan_store_new(&made, e) : dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", path);
    for (size_t i = 0; i < n && !rc; i++) {
        list[i].name = dan_store_name(lm->store, i);
        rc = lay_out(lm, list[i].name, dan_store_at(lm->store, i), made, &list[i].t, e);
    }
    if (!rc && factors) rc = make_factors(lm, made, e);
    if (!rc && factors) list[n++] = (struct dan_gguf_named){"rope_freqs.weight", dan_store_find(made, "rope_freqs.weight")};
    if (!rc) rc = dan_gguf_out_write(o, path, list, n, e);
    dan_store_free(made);
    dan_free(list);
    return rc;
}

/* ---- other storage formats ---- */

static bool is_vector(const char *name, const struct dan_tensor *t) { return t->shape.n < 2 || !strcmp(name, "position_embd.weight"); }

/* A block with one value that is no number rounds to nothing that means anything. */
static int check_finite(const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    int64_t n = dan_cols(t);
    float *row = dan_malloc((size_t)n * sizeof *row);
    int rc = row ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory converting '%s'", name);
    for (int64_t r = 0; r < dan_rows(t) && !rc; r++) {
        float sum = 0;
        t->dtype->to_f32(dan_row(t, r), row, n);
        for (int64_t i = 0; i < n; i++) sum += row[i] - row[i];                /* 0, or NaN of NaN and infinities */
        if (sum != 0) rc = dan_quant_no_number(r, name, e);
    }
    dan_free(row);
    return rc;
}

static int cast_one(struct dan_lm *lm, const char *name, const struct dan_dtype *to, struct dan_err *e)
{
    const struct dan_tensor t = *dan_store_find(lm->store, name);
    struct dan_store *tmp = NULL;
    if (!to) return DAN_OK;
    to = dan_dtype_for_rows(to, dan_cols(&t));
    if (!to) to = &dan_dtype_f16;
    if (t.dtype == to) return DAN_OK;
    int rc = check_no_scale(lm, name, e);
    if (!rc && to->block > 1) rc = check_finite(name, &t, e);
    if (!rc) rc = dan_store_new(&tmp, e);
    if (!rc) rc = dan_copy_edited(tmp, name, &t, &(struct dan_edit){.to = to}, e);
    if (!rc) rc = dan_store_share(lm->store, name, tmp, name, e);
    dan_store_free(tmp);
    return rc;
}

int dan_lm_cast(struct dan_lm *lm, const struct dan_dtype *matrices, const struct dan_dtype *vectors, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        const char *name = dan_store_name(lm->store, i);
        rc = cast_one(lm, name, is_vector(name, dan_store_at(lm->store, i)) ? vectors : matrices, e);
    }
    return rc;
}

/* Whether every value of t is one of `to`. */
static bool fits(const struct dan_tensor *t, const struct dan_dtype *to)
{
    int64_t n = dan_cols(t);
    for (int64_t r = 0; r < dan_rows(t); r++)
        for (int64_t i = 0; i < n; i++) {
            char two[2] __attribute__((aligned(2)));
            float back, x = ((const float *)dan_row(t, r))[i];
            to->from_f32(&x, two, 1);
            to->to_f32(two, &back, 1);
            if (memcmp(&back, &x, sizeof x)) return false;
        }
    return true;
}

int dan_lm_narrow_vectors(struct dan_lm *lm, struct dan_err *e)
{
    const struct dan_dtype *to = format_of(lm);
    int rc = DAN_OK;
    if (to != &dan_dtype_f16 && to != &dan_dtype_bf16) return DAN_OK;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        bool vector = is_vector(dan_store_name(lm->store, i), t);
        if (t->dtype != to && !(vector && t->dtype == &dan_dtype_f32 && fits(t, to))) return DAN_OK;
    }
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) rc = cast_one(lm, dan_store_name(lm->store, i), to, e);
    return rc;
}
