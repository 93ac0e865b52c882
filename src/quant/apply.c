#include "quant/apply.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "model/quantize.h"
#include "quant/rounding.h"

struct item {                                  /* a tensor of the store */
    struct dan_applied a;
    struct dan_quant_form form;
    int32_t input, layer;                      /* of the product that reads it; input -1: no product does */
    bool wanted, done;
};
struct apply {
    struct dan_lm *lm;
    struct dan_apply_opts o;
    const struct dan_round_method *method;
    struct dan_graph *graph;
    struct dan_products products;              /* of methods that look at inputs */
    struct item *item;
    size_t n, done, total;
    struct dan_moments *input;                 /* [n_inputs]; k = 0: not wanted in this run */
};

/* ---- which, and into what ---- */

static int settle_form(struct apply *v, struct item *it, const struct dan_tensor *t, struct dan_err *e)
{
    int64_t cols = dan_cols(t);
    char why[80];
    if (it->form.kind == DAN_FORM_ROWS && dan_rows_why_not(v->lm, v->graph, it->a.name, &it->form.rows)) {
        const char *reason = dan_rows_why_not(v->lm, v->graph, it->a.name, &it->form.rows);
        snprintf(it->a.note, sizeof it->a.note, "%s", reason);
        int rc = dan_quant_form_find("q8_0", &it->form, e);
        if (rc) return rc;
    }
    if (!dan_quant_form_misfit(&it->form, cols, why, sizeof why)) return DAN_OK;
    const struct dan_dtype *fits = it->form.kind == DAN_FORM_BLOCKS && cols > 0 ? dan_dtype_for_rows(it->form.blocks, cols) : NULL;
    snprintf(it->a.note, sizeof it->a.note, "%s", why);
    if (fits) return dan_quant_form_find(fits->name, &it->form, e);
    it->a.why = "its rows are no multiple of the block";
    return DAN_OK;
}

static int settle(struct apply *v, struct item *it, const char *name, struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(v->lm->store, name);
    const struct dan_quant_form *f = v->o.form_of ? v->o.form_of(v->o.ctx, name) : v->o.form;
    it->a = (struct dan_applied){.name = name, .before = t->dtype->name, .after = t->dtype->name, .shape = t->shape,
                                 .bytes_before = dan_tensor_bytes(t), .bytes_after = dan_tensor_bytes(t)};
    it->input = -1;
    it->a.why = v->o.keep ? v->o.keep(v->o.ctx, name) : NULL;
    if (!it->a.why) it->a.why = dan_quant_why_not(v->graph, name, t);
    if (!it->a.why && !f) it->a.why = "left as it is";
    if (it->a.why) return DAN_OK;
    it->form = *f;
    int rc = settle_form(v, it, t, e);
    it->wanted = !rc && !it->a.why;
    v->total += it->wanted;
    return rc;
}

static struct item *item_of(const struct apply *v, const char *name)
{
    for (size_t i = 0; i < v->n; i++)
        if (!strcmp(v->item[i].a.name, name)) return &v->item[i];
    return NULL;
}

static int settle_all(struct apply *v, struct dan_err *e)
{
    struct dan_io io = {.max_rows = 1, .lanes = v->lm->model->time_major, .logits = true, .max_select = 1};
    const char *quantised = dan_quant_already(v->lm);
    if (quantised)
        return dan_fail(e, DAN_EINVAL, "'%s' is quantised already (%s): rounding twice adds up the errors; quantise the float model instead", quantised,
                        dan_store_find(v->lm->store, quantised)->dtype->name);
    int rc = dan_lm_graph(v->lm, &io, "", NULL, &v->graph, e);
    v->item = dan_calloc(dan_store_count(v->lm->store) + 1, sizeof *v->item);
    if (!rc && !v->item) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the list of tensors");
    for (size_t i = 0; i < dan_store_count(v->lm->store) && !rc; i++)
        if (!strchr(dan_store_name(v->lm->store, i), '+')) rc = settle(v, &v->item[v->n++], dan_store_name(v->lm->store, i), e);
    return rc;
}

/* ---- one matrix ---- */

static int load(const struct dan_tensor *t, float **out, struct dan_err *e)
{
    int64_t rows = dan_rows(t), cols = dan_cols(t);
    float *w = dan_malloc((size_t)(rows * cols + 1) * sizeof *w);
    if (!w) return dan_fail(e, DAN_ENOMEM, "not enough memory for a matrix of %lld rows", (long long)rows);
    for (int64_t r = 0; r < rows; r++) t->dtype->to_f32(dan_row(t, r), w + r * cols, cols);
    *out = w;
    return DAN_OK;
}

static int store_result(struct apply *v, const char *name, const struct dan_grid *g, struct dan_err *e)
{
    if (g->form.kind == DAN_FORM_ROWS) {
        const struct dan_rows_format *f = &g->form.rows;
        return dan_lm_put_rows(v->lm, name, f->to, g->t.data, g->scale, f->asymmetric ? g->zero : NULL, e);
    }
    struct dan_shape shape = dan_store_find(v->lm->store, name)->shape;
    int rc = dan_store_share(v->lm->store, name, g->store, "w", e);
    if (!rc) *dan_store_find(v->lm->store, name) = dan_tensor_of(g->t.dtype, shape, g->t.data);
    return rc;
}

/* The method, or what takes its place where this matrix does not allow it. */
static const struct dan_round_method *method_for(struct apply *v, struct item *it, const struct dan_moments *x)
{
    const struct dan_round_method *m = v->method;
    const char *why = m->needs != DAN_NEEDS_NOTHING && !x               ? "no product reads it"
                      : m->steps && !dan_quant_form_steps(&it->form) ? "this format is written a row at a time"
                                                                        : NULL;
    if (!why) return m;
    if (!it->a.note[0]) snprintf(it->a.note, sizeof it->a.note, "by mse: %s", why);
    return &dan_round_mse;
}

static int round_one(struct apply *v, struct item *it, const struct dan_moments *x, struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(v->lm->store, it->a.name);
    int64_t rows = dan_rows(t), cols = dan_cols(t);
    struct dan_grid g = {0};
    struct dan_err inner = {0};
    float *w = NULL;
    int rc = load(t, &w, e);
    if (!rc) rc = dan_grid_new(&it->form, rows, cols, w, &g, e);
    if (rc) goto out;
    struct dan_round_job j = {.grid = &g, .w = w, .x = x, .o = v->o.round, .report = &it->a.round};
    rc = dan_round(method_for(v, it, x), &j, &inner);
    if (rc) rc = dan_fail(e, rc, "'%s': %s", it->a.name, inner.msg);
    if (!rc) rc = store_result(v, it->a.name, &g, e);
    it->a.after = it->form.name;
    it->a.bytes_after = dan_quant_form_bytes(&it->form, rows, cols);
    it->done = true;
    v->done++;
    if (!rc && v->o.progress && !v->o.progress(v->o.ctx, (int64_t)v->done, (int64_t)v->total)) rc = dan_fail(e, DAN_ECANCELLED, "interrupted");
out:
    dan_grid_release(&g);
    dan_free(w);
    return rc;
}

/* ---- inputs ---- */

static bool wants(void *ctx, const struct dan_product *p)
{
    struct apply *v = ctx;
    return p->first && v->input[p->input].k > 0;
}

static int see(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    struct apply *v = ctx;
    return dan_moments_add(&v->input[p->input], x, n, v->o.round.pool, e);
}

static void forget(struct apply *v)
{
    for (int32_t i = 0; i < v->products.n_inputs; i++) dan_moments_release(&v->input[i]);
}

/* Products from `first` up to, not including, `to`: their inputs, then their weights. */
static int do_products(struct apply *v, size_t first, size_t to, struct dan_err *e)
{
    int rc = DAN_OK;
    bool any = false;
    for (size_t i = first; i < to && !rc; i++) {
        const struct dan_product *p = &v->products.v[i];
        struct item *it = item_of(v, p->name);
        if (!it || !it->wanted || it->done || v->input[p->input].k) continue;
        rc = dan_moments_new(p->k, v->method->needs == DAN_NEEDS_H, &v->input[p->input], e);
        any = true;
    }
    struct dan_observe_opts oo = {.pool = v->o.round.pool, .wants = wants, .see = see, .ctx = v};
    if (!rc && any) rc = dan_observe(v->lm, v->o.text, &oo, NULL, e);
    for (size_t i = first; i < to && !rc; i++) {
        struct item *it = item_of(v, v->products.v[i].name);
        if (it && it->wanted && !it->done) rc = round_one(v, it, &v->input[v->products.v[i].input], e);
    }
    forget(v);
    return rc;
}

/* Where the products that may be done together with product i end. */
static size_t end_of(const struct apply *v, size_t i)
{
    const struct dan_product *p = v->products.v;
    bool once = v->o.order == DAN_ORDER_ONCE || v->method->needs == DAN_NEEDS_SQUARES;
    size_t to = i + 1;
    while (to < v->products.n && (once || (v->o.order == DAN_ORDER_LAYERS ? p[to].layer == p[i].layer : p[to].input == p[i].input))) to++;
    return to;
}

/* Mean squares of a file: what it does not know is rounded without. */
static int with_imatrix(struct apply *v, struct dan_err *e)
{
    int rc = DAN_OK;
    size_t known = 0;
    for (size_t i = 0; i < v->n && !rc; i++) {
        struct item *it = &v->item[i];
        const struct dan_imatrix_entry *x = it->wanted ? dan_imatrix_find(v->o.imatrix, it->a.name) : NULL;
        struct dan_moments m;
        if (!x) continue;
        known++;
        if (x->k != dan_cols(dan_store_find(v->lm->store, it->a.name)))
            return dan_fail(e, DAN_EFORMAT, "the importance matrix has %lld columns for '%s', the model others; it belongs to another model", (long long)x->k,
                            it->a.name);
        rc = dan_moments_new(x->k, false, &m, e);
        if (rc) return rc;
        m.n = 1;
        for (int64_t k = 0; k < x->k; k++) m.squares[k] = (double)dan_imatrix_mean(x, k);
        rc = round_one(v, it, &m, e);
        dan_moments_release(&m);
    }
    if (!rc && !known && v->total)
        rc = dan_fail(e, DAN_EFORMAT, "the importance matrix knows none of the model's matrices; it belongs to another model or was made with other names");
    return rc;
}

static int with_inputs(struct apply *v, struct dan_err *e)
{
    if (v->o.imatrix && v->method->needs == DAN_NEEDS_SQUARES) return with_imatrix(v, e);
    if (!v->o.text) return dan_fail(e, DAN_EINVAL, "method '%s' looks at the inputs of products; give --calibration FILE", v->method->name);
    int rc = dan_products_new(v->lm, &v->products, e);
    if (rc) return rc;
    v->input = dan_calloc((size_t)v->products.n_inputs + 1, sizeof *v->input);
    if (!v->input) return dan_fail(e, DAN_ENOMEM, "not enough memory for the inputs of products");
    for (size_t i = 0, to; i < v->products.n && !rc; i = to) {
        to = end_of(v, i);
        rc = do_products(v, i, to, e);
    }
    return rc;
}

/* ---- all ---- */

static void release(struct apply *v)
{
    if (v->input) forget(v);
    dan_free(v->input);
    dan_products_release(&v->products);
    dan_graph_free(v->graph);
    dan_free(v->item);
}

int dan_lm_apply(struct dan_lm *lm, const struct dan_apply_opts *o, struct dan_err *e)
{
    struct apply v = {.lm = lm, .o = *o, .method = o->method ? o->method : &dan_round_nearest};
    int rc = settle_all(&v, e);
    if (!rc && v.method->needs != DAN_NEEDS_NOTHING) rc = with_inputs(&v, e);
    for (size_t i = 0; i < v.n && !rc; i++)
        if (v.item[i].wanted && !v.item[i].done) rc = round_one(&v, &v.item[i], NULL, e);
    for (size_t i = 0; i < v.n && !rc; i++)
        if (o->report) o->report(o->ctx, &v.item[i].a);
    release(&v);
    return rc;
}

/* scratch[cols]: the scales and minima. */
static void try_row(const void *ctx, const float *w, float *out, int64_t cols, void *scratch)
{
    const struct dan_quant_form *f = ctx;
    struct dan_grid g = {.form = *f, .rows = 1, .cols = cols, .group = f->group, .t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(1, cols), out),
                         .scale = scratch, .zero = (float *)scratch + cols / f->group};
    memset(scratch, 0, (size_t)cols * sizeof(float));
    dan_grid_row(&g, 0, w, NULL);
}

struct dan_trial dan_form_trial(const struct dan_quant_form *f)
{
    if (f->kind != DAN_FORM_FAKE) return dan_trial_of(f->kind == DAN_FORM_BLOCKS ? f->blocks : f->rows.to);
    return (struct dan_trial){.group = f->group, .row = try_row, .ctx = f};
}

int dan_lm_share(const struct dan_lm *from, struct dan_lm *to, struct dan_err *e)
{
    *to = *from;
    to->store = NULL;
    int rc = dan_store_new(&to->store, e);
    for (size_t i = 0; i < dan_store_count(from->store) && !rc; i++) {
        const char *name = dan_store_name(from->store, i);
        if (!strchr(name, '+')) rc = dan_store_share(to->store, name, from->store, name, e);
    }
    if (rc) dan_lm_release(to);
    return rc;
}
