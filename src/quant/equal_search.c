#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"
#include "model/quantize_rows.h"
#include "quant/equal_impl.h"

/* --- what is seen of the channels */

struct collect { struct dan_channel_list *list; const struct dan_collect_opts *o; };

static void keep_row(struct dan_channels *c, const float *x)
{
    if (c->n < c->cap && c->count % c->step == 0) memcpy(c->x + c->n++ * c->k, x, (size_t)c->k * sizeof *x);
    for (int64_t j = 0; j < c->k; j++) {
        float a = fabsf(x[j]);
        c->most[j] = a > c->most[j] ? a : c->most[j];
        c->sum[j] += (double)a;
    }
    c->count++;
}

static int see(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    struct dan_channels *c = &((struct collect *)ctx)->list->v[p->input];
    for (int64_t i = 0; i < n * p->k; i++)
        if (!isfinite(x[i]))
            return dan_fail(e, DAN_EINVAL, "what '%s' reads holds %g; the model or its weights are broken, look with --trace", p->name, (double)x[i]);
    for (int64_t i = 0; i < n; i++) keep_row(c, x + i * c->k);
    return DAN_OK;
}

static bool first_reader(void *ctx, const struct dan_product *p) { return (void)ctx, p->first; }

static bool progress(void *ctx, int64_t done, int64_t total)
{
    const struct dan_collect_opts *o = ((struct collect *)ctx)->o;
    return !o->progress || o->progress(o->ctx, done, total);
}

static int open_channels(struct dan_channel_list *l, const struct dan_folds *f, int64_t rows, int64_t total, struct dan_err *e)
{
    l->n = (int32_t)f->n;
    l->v = dan_calloc(f->n + 1, sizeof *l->v);
    if (!l->v) return dan_fail(e, DAN_ENOMEM, "not enough memory for the channels of %zu inputs", f->n);
    for (size_t i = 0; i < f->n; i++) {
        struct dan_channels *c = &l->v[f->v[i].input];
        size_t k = (size_t)f->v[i].k;
        *c = (struct dan_channels){.k = f->v[i].k, .cap = rows, .step = rows > 0 && total > rows ? total / rows : 1};
        c->most = dan_calloc(k, sizeof *c->most);
        c->sum = dan_calloc(k, sizeof *c->sum);
        c->x = dan_malloc(((size_t)rows * k + 1) * sizeof *c->x);
        if (!c->most || !c->sum || !c->x)
            return dan_fail(e, DAN_ENOMEM, "not enough memory to keep %lld rows of what '%s' reads", (long long)rows, f->v[i].to[0]);
    }
    return DAN_OK;
}

int dan_channels_collect(const struct dan_lm *lm, const struct dan_sequences *text, const struct dan_folds *folds,
                         const struct dan_collect_opts *o, struct dan_channel_list *out, struct dan_err *e)
{
    struct collect c = {out, o};
    struct dan_observe_opts oo = {.pool = o->pool, .wants = first_reader, .see = see, .progress = progress, .ctx = &c};
    *out = (struct dan_channel_list){0};
    int rc = open_channels(out, folds, o->rows, text->n ? text->start[text->n] - text->start[0] : 0, e);
    if (!rc) rc = dan_observe(lm, text, &oo, NULL, e);
    if (rc) dan_channels_release(out);
    return rc;
}

void dan_channels_release(struct dan_channel_list *l)
{
    for (int32_t i = 0; i < l->n && l->v; i++) {
        dan_free(l->v[i].most);
        dan_free(l->v[i].sum);
        dan_free(l->v[i].x);
    }
    dan_free(l->v);
    *l = (struct dan_channel_list){0};
}

void dan_fold_weight_max(const struct dan_lm *lm, const struct dan_fold *f, float *out, float *row)
{
    memset(out, 0, (size_t)f->k * sizeof *out);
    for (int i = 0; i < f->n_to; i++) {
        const struct dan_tensor *t = dan_store_find(lm->store, f->to[i]);
        for (int64_t r = 0; r < dan_rows(t); r++) {
            t->dtype->to_f32(dan_row(t, r), row, f->k);
            for (int64_t j = 0; j < f->k; j++) out[j] = fabsf(row[j]) > out[j] ? fabsf(row[j]) : out[j];
        }
    }
}

/* --- trying to round */

static void trial_blocks(const void *ctx, const float *w, float *out, int64_t cols, void *scratch)
{
    const struct dan_dtype *to = ctx;
    to->from_f32(w, scratch, cols);
    to->to_f32(scratch, out, cols);
}

/* One scale per row: int8, fp8. */
static void trial_rows(const void *ctx, const float *w, float *out, int64_t cols, void *scratch)
{
    const struct dan_rows_format f = {.to = ctx};
    float scale, zero;
    dan_row_scale(&f, w, cols, &scale, &zero);
    dan_row_levels(&f, w, cols, scale, zero, scratch);
    f.to->to_f32(scratch, out, cols);
    for (int64_t j = 0; j < cols; j++) out[j] *= scale;
}

struct dan_trial dan_trial_of(const struct dan_dtype *to)
{
    bool rows = to == &dan_dtype_i8 || !strcmp(to->name, "f8_e4m3");
    return rows ? (struct dan_trial){.row = trial_rows, .ctx = to} : (struct dan_trial){.group = to->block, .row = trial_blocks, .ctx = to};
}

/* --- the error of scales */

static int open_product(struct dan_search *s, int i, int64_t n_out, struct dan_err *e)
{
    struct dan_builder b;
    s->graph[i] = dan_graph_new();
    s->y[i] = dan_malloc((size_t)(s->ch->n * n_out + 1) * sizeof(float));
    if (!s->graph[i] || !s->y[i]) return dan_fail(e, DAN_ENOMEM, "not enough memory to try scales of '%s'", s->fold->to[i]);
    dan_builder_init(&b, s->graph[i]);
    dan_ref x = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(s->ch->n, s->fold->k), 0);
    dan_ref w = dan_input(&b, "w", &dan_dtype_f32, DAN_SHAPE(n_out, s->fold->k), 0);
    dan_output(&b, "y", dan_matmul(&b, x, w, 0, 1));
    int rc = dan_builder_check(&b, e);
    return rc ? rc : dan_compile(s->graph[i], &(struct dan_exec_opts){.pool = s->pool}, &s->program[i], e);
}

struct rounding { const struct dan_search *s; const struct dan_tensor *w; const float *scale; float *scratch; bool exact; };

/* Rows of W s, rounded unless exact, into s->w. */
static void round_rows(void *ctx, int ith, int nth)
{
    const struct rounding *r = ctx;
    int64_t k = r->s->fold->k, n = dan_rows(r->w);
    float *row = r->scratch + 2 * k * ith;
    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        float *to = r->s->w + i * k;
        r->w->dtype->to_f32(dan_row(r->w, i), row, k);
        for (int64_t j = 0; j < k; j++) row[j] *= r->scale[j];
        if (r->exact) memcpy(to, row, (size_t)k * sizeof *row);
        else r->s->trial.row(r->s->trial.ctx, row, to, k, row + k);
    }
}

static int run_product(struct dan_search *s, int i, const float *scale, bool exact, struct dan_err *e)
{
    int nth = s->pool ? dan_pool_size(s->pool) : 1;
    struct rounding r = {.s = s, .w = dan_store_find(s->lm->store, s->fold->to[i]), .scale = scale, .exact = exact};
    r.scratch = dan_malloc((size_t)(2 * s->fold->k * nth) * sizeof *r.scratch);
    if (!r.scratch) return dan_fail(e, DAN_ENOMEM, "not enough memory to round '%s'", s->fold->to[i]);
    dan_pool_run(s->pool, round_rows, &r);
    dan_free(r.scratch);
    struct dan_tensor x = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(s->ch->n, s->fold->k), s->x);
    struct dan_tensor w = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(dan_rows(r.w), s->fold->k), s->w);
    int rc = dan_bind(s->program[i], "x", &x, e);
    if (!rc) rc = dan_bind(s->program[i], "w", &w, e);
    return rc ? rc : dan_run(s->program[i], e);
}

static float largest(const float *x, int64_t n)
{
    float m = 0;
    for (int64_t j = 0; j < n; j++) m = fabsf(x[j]) > m ? fabsf(x[j]) : m;
    return m;
}

static void fake_int8(float *x, int64_t n, float most)
{
    float by = most > 0 ? most / 127 : 1;
    for (int64_t j = 0; j < n; j++) x[j] = by * fmaxf(-128, fminf(127, rintf(x[j] / by)));
}

/* x / s, as the product will see it, into s->x. */
static void scale_inputs(struct dan_search *s, const float *scale)
{
    int64_t k = s->fold->k;
    float most = 0;
    for (int64_t j = 0; j < k; j++) most = fmaxf(most, s->ch->most[j] / scale[j]);
    for (int64_t i = 0; i < s->ch->n; i++) {
        float *to = s->x + i * k;
        for (int64_t j = 0; j < k; j++) to[j] = s->ch->x[i * k + j] / scale[j];
        if (s->act != DAN_ACT_FLOAT) fake_int8(to, k, s->act == DAN_ACT_PER_ROW ? largest(to, k) : most);
    }
}

static int measure_float(struct dan_search *s, const float *ones, struct dan_err *e)
{
    memcpy(s->x, s->ch->x, (size_t)(s->ch->n * s->fold->k) * sizeof *s->x);
    for (int i = 0; i < s->fold->n_to; i++) {
        int rc = run_product(s, i, ones, true, e);
        if (rc) return rc;
        const struct dan_tensor *y = dan_result(s->program[i], 0);
        int64_t n = dan_shape_count(&y->shape);
        memcpy(s->y[i], y->data, (size_t)n * sizeof(float));
        for (int64_t j = 0; j < n; j++) s->power += (double)s->y[i][j] * (double)s->y[i][j];
    }
    return DAN_OK;
}

int dan_search_open(struct dan_search *s, struct dan_err *e)
{
    int64_t k = s->fold->k, most = 0;
    int rc = DAN_OK;
    for (int i = 0; i < s->fold->n_to && !rc; i++) {
        int64_t n = dan_rows(dan_store_find(s->lm->store, s->fold->to[i]));
        most = n > most ? n : most;
        rc = open_product(s, i, n, e);
    }
    float *ones = dan_malloc((size_t)k * sizeof *ones);
    s->x = dan_malloc((size_t)(s->ch->n * k + 1) * sizeof *s->x);
    s->w = dan_malloc((size_t)(most * k + 1) * sizeof *s->w);
    if (!rc && (!ones || !s->x || !s->w)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory to try scales of '%s'", s->fold->to[0]);
    for (int64_t j = 0; j < k && ones; j++) ones[j] = 1;
    if (!rc) rc = measure_float(s, ones, e);
    dan_free(ones);
    return rc;
}

void dan_search_close(struct dan_search *s)
{
    for (int i = 0; i < s->fold->n_to; i++) {
        dan_program_free(s->program[i]);
        dan_graph_free(s->graph[i]);
        dan_free(s->y[i]);
    }
    dan_free(s->x);
    dan_free(s->w);
}

int dan_search_error(struct dan_search *s, const float *scale, double *error, struct dan_err *e)
{
    double sum = 0;
    scale_inputs(s, scale);
    for (int i = 0; i < s->fold->n_to; i++) {
        int rc = run_product(s, i, scale, false, e);
        if (rc) return rc;
        const struct dan_tensor *t = dan_result(s->program[i], 0);
        const float *y = t->data;
        for (int64_t j = 0; j < dan_shape_count(&t->shape); j++) sum += ((double)y[j] - (double)s->y[i][j]) * ((double)y[j] - (double)s->y[i][j]);
    }
    *error = s->power > 0 ? sum / s->power : sum;
    return DAN_OK;
}
