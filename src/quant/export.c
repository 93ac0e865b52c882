/* See export.h. */
#include "quant/export.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "exec/exec.h"
#include "model/quantize_rows.h"
#include "op/fake_quant.h"

/* ---- what evaluation saw ------------------------------------------------------------------- */

/* The rounding node of evaluation, run alone. */
struct rounded { struct dan_graph *g; struct dan_program *p; const struct dan_tensor *y; };

static void rounded_release(struct rounded *r)
{
    dan_program_free(r->p);
    dan_graph_free(r->g);
}

static int rounded_new(const struct dan_tensor *w, const struct dan_tensor *step, const struct dan_quant_policy *p, struct rounded *r,
                       struct dan_err *e)
{
    struct dan_builder b;
    struct dan_exec_opts o = {.ref = true};
    r->g = dan_graph_new();
    if (!r->g) return dan_fail(e, DAN_ENOMEM, "not enough memory for a graph");
    dan_builder_init(&b, r->g);
    dan_ref x = dan_input(&b, "w", &dan_dtype_f32, w->shape, 0), s = step ? dan_input(&b, "step", &dan_dtype_f32, step->shape, 0) : 0;
    dan_output(&b, "y", dan_quant_weight(&b, x, s, p));
    int rc = dan_builder_check(&b, e);
    if (!rc) rc = dan_compile(r->g, &o, &r->p, e);
    if (!rc) rc = dan_bind(r->p, "w", w, e);
    if (!rc && step) rc = dan_bind(r->p, "step", step, e);
    if (!rc) rc = dan_run(r->p, e);
    if (!rc) r->y = dan_result(r->p, 0);
    return rc;
}

/* The scale of n weights: the trained one, or what the dynamic rule takes, made positive. */
static float scale_of(const float *w, int64_t n, const float *step, struct dan_quant_grid q)
{
    if (step) return dan_quant_scale(*step, q.form);
    float top = 0;
    for (int64_t i = 0; i < n; i++) top = fmaxf(top, fabsf(w[i]));
    float s = top / (float)(q.form & DAN_QUANT_FULL ? -dan_quant_lo(q.bits, q.form) : dan_quant_hi(q.bits));
    return q.form & DAN_QUANT_F16 ? dan_f16_to_f32(dan_f32_to_f16(s)) : s;
}

/* ---- a scale per row ----------------------------------------------------------------------- */

static int export_row(const float *w, const float *y, int64_t n, const float *step, struct dan_quant_grid q, int8_t *level, float *scale,
                      const char *name, struct dan_err *e)
{
    const float s = scale_of(w, n, step, q);
    *scale = s > 0 ? s : 1;                    /* a row of zeros */
    for (int64_t i = 0; i < n; i++) {
        float l = rintf(y[i] / *scale);
        if (!(fabsf(l) <= 127) || *scale * l != y[i])
            return dan_fail(e, DAN_EINVAL, "weight %lld of a row of '%s' is %g, no multiple of its scale %g: train on, or look for NaN", (long long)i,
                            name, (double)y[i], (double)*scale);
        level[i] = (int8_t)l;
    }
    return DAN_OK;
}

static int export_rows(struct dan_lm *out, const char *name, const struct dan_tensor *w, const struct dan_tensor *step,
                       const struct dan_tensor *y, struct dan_quant_grid q, struct dan_err *e)
{
    const int64_t rows = dan_rows(w), n = dan_cols(w);
    int8_t *level = dan_calloc((size_t)(rows * n), 1);
    float *scale = dan_calloc((size_t)rows, sizeof *scale);
    int rc = level && scale ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for the levels of '%s'", name);
    for (int64_t r = 0; r < rows && !rc; r++)
        rc = export_row(dan_row(w, r), dan_row(y, r), n, step ? dan_row(step, r) : NULL, q, level + r * n, scale + r, name, e);
    if (!rc) rc = dan_lm_put_rows(out, name, &dan_dtype_i8, level, scale, NULL, e);
    dan_free(level);
    dan_free(scale);
    return rc;
}

/* ---- block formats ------------------------------------------------------------------------- */

enum { MAX_BLOCK = 256 };

/* A block with scale s: fitted to levels that use it fully, from `lo` up to `hi`, then every weight put.  True when it holds y. */
static bool put_block(const struct dan_dtype *t, const float *y, float s, int lo, int hi, void *block)
{
    float x[MAX_BLOCK];
    for (int i = 0; i < t->block; i++) x[i] = s * (float)(lo + i % (hi - lo + 1));
    t->fit(x, NULL, block);
    for (int i = 0; i < t->block; i++)
        if (t->put(block, i, y[i]) != y[i]) return false;
    t->to_f32(block, x, t->block);
    for (int i = 0; i < t->block; i++)
        if (x[i] != y[i]) return false;        /* -0 and 0 are one level */
    return true;
}

static int export_block(const struct dan_dtype *t, const float *w, const float *y, const float *step, struct dan_quant_grid q, void *block,
                        const char *name, struct dan_err *e)
{
    const int top = (int)dan_quant_hi(q.bits == 8 ? 8 : 4);
    const float s = scale_of(w, t->block, step, q);
    if (put_block(t, y, s, -top - 1, top, block) || put_block(t, y, s, -top, top, block) || put_block(t, y, -s, -top - 1, top, block)) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "'%s' of '%s' cannot hold what training rounded to: train on, or look for NaN and numbers beyond f16", t->name, name);
}

/* Methods without learned scales rounded by the format itself where it has that many levels. */
static int export_blocks(struct dan_lm *out, const char *name, const struct dan_tensor *w, const struct dan_tensor *step,
                         const struct dan_tensor *y, const struct dan_quant_policy *p, const struct dan_dtype *t, struct dan_err *e)
{
    const struct dan_quant_grid q = dan_quant_weight_grid(p);
    const int64_t rows = dan_rows(w), n = dan_cols(w);
    struct dan_buffer *buf;
    struct dan_tensor to = dan_tensor_of(t, w->shape, NULL);
    int rc = dan_buffer_new(dan_tensor_bytes(&to), &buf, e);
    if (rc) return rc;
    to.data = buf->data;
    for (int64_t r = 0; r < rows && !rc; r++) {
        char *at = dan_row(&to, r);
        const float *yr = dan_row(y, r);
        if (p->format) t->from_f32(dan_row(w, r), at, n);
        for (int64_t g = 0; !p->format && g < n / t->block && !rc; g++, at += t->bytes)
            rc = export_block(t, (const float *)dan_row(w, r) + g * t->block, yr + g * t->block, step ? (const float *)dan_row(step, r) + g : NULL,
                              q, at, name, e);
    }
    if (!rc) rc = dan_store_put(out->store, name, to, buf, e);
    dan_buffer_drop(buf);
    return rc;
}

/* ---- all ----------------------------------------------------------------------------------- */

int dan_qat_export_format(const struct dan_quant_policy *p, const struct dan_dtype **out, struct dan_err *e)
{
    char name[24];
    if (p->weight_bits == 8) snprintf(name, sizeof name, "q8_0");
    else snprintf(name, sizeof name, "i4_g%d", (int)p->group);
    *out = p->group ? dan_dtype_find(name) : &dan_dtype_i8;
    if (!*out || (p->group && (!(*out)->fit || !(*out)->put || (*out)->block != p->group || p->group > MAX_BLOCK)))
        return dan_fail(e, DAN_EUNSUPPORTED, "there is no storage format '%s' to export to: choose another --qat-group", name);
    return DAN_OK;
}

static int share_rest(const struct dan_lm *lm, struct dan_lm *out, struct dan_err *e)
{
    *out = (struct dan_lm){.model = lm->model, .cfg = lm->cfg};
    int rc = dan_store_new(&out->store, e);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        const char *name = dan_store_name(lm->store, i);
        if (!strchr(name, '+') && !dan_quant_stem(name, strlen(name))) rc = dan_store_share(out->store, name, lm->store, name, e);
    }
    return rc;
}

static int export_weight(const struct dan_lm *lm, const char *name, const struct dan_quant_policy *p, const struct dan_dtype *t,
                         struct dan_lm *out, struct dan_err *e)
{
    char of[256];
    struct rounded r = {0};
    const struct dan_tensor *w = dan_store_find(lm->store, name), *step = NULL;
    int len = snprintf(of, sizeof of, "%s.step", name);
    if (!w || len < 0 || len >= (int)sizeof of) return dan_fail(e, DAN_EINVAL, "the weights have no tensor '%s'", name);
    if (dan_quant_has_steps(p) && !(step = dan_store_find(lm->store, of)))
        return dan_fail(e, DAN_EINVAL, "the weights have no scales '%s': export right after training with this method", of);
    int rc = rounded_new(w, step, p, &r, e);
    if (!rc && p->group) rc = export_blocks(out, name, w, step, r.y, p, t, e);
    else if (!rc) rc = export_rows(out, name, w, step, r.y, dan_quant_weight_grid(p), e);
    rounded_release(&r);
    return rc;
}

static int export_input(const struct dan_lm *lm, const struct dan_graph *g, dan_ref product, const struct dan_quant_policy *p,
                        struct dan_lm *out, struct dan_err *e)
{
    char name[256];
    const struct dan_node *n = &g->node[product];
    const struct dan_tensor *s = dan_quant_input_name(g, n->in[0], p, name, sizeof name) ? dan_store_find(lm->store, name) : NULL;
    if (!s) return dan_fail(e, DAN_EINVAL, "the weights have no scale for the input of '%s'", g->node[n->in[1]].name);
    return dan_lm_set_input_scale(out, g->node[n->in[1]].name, dan_quant_scale(*(const float *)s->data, 0), 0, e);
}

int dan_qat_export(const struct dan_lm *lm, const struct dan_quant_policy *p, struct dan_lm *out, struct dan_exported *what, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    const struct dan_dtype *t = NULL;
    struct dan_io io = {.max_rows = 1, .lanes = lm->model->time_major, .logits = true, .max_select = 1};
    struct dan_exported x = {.inputs_differ = p->act_bits && p->act_bits != 8};
    int rc = dan_qat_export_format(p, &t, e);
    if (!rc) rc = share_rest(lm, out, e);
    if (!rc) rc = dan_lm_graph(out, &io, "", NULL, &g, e);
    for (int32_t i = 1; !rc && i < g->n; i++) {
        if (!dan_quant_is_product(g, i, p)) continue;
        const struct dan_node *w = &g->node[g->node[i].in[1]];
        rc = export_weight(lm, w->name, p, t, out, e);
        if (!rc && p->act_static && p->act_bits == 8) rc = export_input(lm, g, i, p, out, e);
        x.matrices++;
        x.bytes_before += (size_t)dan_shape_count(&w->shape) * sizeof(float);
        x.bytes_after += dan_dtype_bytes(t, dan_shape_count(&w->shape)) + (p->group ? 0 : (size_t)w->shape.d[0] * sizeof(float));
    }
    x.format = p->group ? (t ? t->name : "") : "int8 per row";
    dan_graph_free(g);
    if (rc) dan_lm_release(out);
    else if (what) *what = x;
    return rc;
}
