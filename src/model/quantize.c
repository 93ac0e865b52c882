#include "model/quantize.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "model/quantize_rows.h"
#include "model/score.h"

static bool is_block_format(const struct dan_dtype *t) { return t->block > 1 && t->from_f32; }

/* "Q4_K_M" is nearly q4_k. */
static const char *nearest_format(const char *name)
{
    char low[32];
    size_t n = 0;
    const char *best = NULL;
    int least = 3;
    for (; name[n] && n + 1 < sizeof low; n++) low[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] - 'A' + 'a' : name[n]);
    low[n] = 0;
    for (int i = 0; dan_dtypes[i]; i++) {
        int d = is_block_format(dan_dtypes[i]) && *low == *dan_dtypes[i]->name ? dan_str_distance(low, dan_dtypes[i]->name) : least;
        if (d < least) least = d, best = dan_dtypes[i]->name;
    }
    return best;
}

int dan_quant_format(const char *name, const struct dan_dtype **out, struct dan_err *e)
{
    const struct dan_dtype *t = dan_dtype_find(name);
    if (t && is_block_format(t)) {
        *out = t;
        return DAN_OK;
    }
    struct dan_str list = {0};
    const char *near = nearest_format(name);
    for (int i = 0; dan_dtypes[i]; i++)
        if (is_block_format(dan_dtypes[i])) dan_str_printf(&list, "%s%s", list.n ? ", " : "", dan_dtypes[i]->name);
    int rc = dan_fail(e, DAN_EINVAL, "unknown quantisation format '%s'%s%s%s; use one of: %s", name, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "",
                      dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

static bool is_float(const struct dan_dtype *t)
{
    return t == &dan_dtype_f32 || t == &dan_dtype_bf16 || t == &dan_dtype_f16;
}

const char *dan_quant_why_not(const struct dan_graph *g, const char *name, const struct dan_tensor *t)
{
    if (t->shape.n < 2) return "a vector";
    if (!is_float(t->dtype)) return t->dtype->block > 1 || t->dtype == &dan_dtype_i8 ? "quantised already" : "neither f32 nor bf16";
    dan_ref param = dan_leaf(g, name);
    return param && dan_lm_only_products(g, param) ? NULL : "read by other operations than products";
}

const char *dan_quant_already(const struct dan_lm *lm)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        if (t->shape.n >= 2 && (t->dtype->block > 1 || dan_has_row_scale(lm->store, dan_store_name(lm->store, i)))) return dan_store_name(lm->store, i);
    }
    return NULL;
}

/* ---- one matrix, its rows shared out ---- */

struct convert {
    const struct dan_tensor *from, *to;
    float  *rows;                              /* two a thread */
    double *part;                              /* [2N] squares of each row's errors and weights: one order for any number of threads */
};

static void convert_row(const struct convert *c, int64_t r, float *w, float *back)
{
    double error = 0, power = 0;
    int64_t n = dan_cols(c->from);
    c->from->dtype->to_f32(dan_row(c->from, r), w, n);
    c->to->dtype->from_f32(w, dan_row(c->to, r), n);
    c->to->dtype->to_f32(dan_row(c->to, r), back, n);
    for (int64_t i = 0; i < n; i++) {
        error += ((double)back[i] - (double)w[i]) * ((double)back[i] - (double)w[i]);
        power += (double)w[i] * (double)w[i];
    }
    c->part[2 * r] = error;
    c->part[2 * r + 1] = power;
}

static void convert_share(void *ctx, int ith, int nth)
{
    struct convert *c = ctx;
    int64_t rows = dan_rows(c->from), n = dan_cols(c->from);
    float *mine = c->rows + 2 * n * ith;
    for (int64_t r = rows * ith / nth; r < rows * (ith + 1) / nth; r++) convert_row(c, r, mine, mine + n);
}

int dan_quant_no_number(int64_t row, const char *name, struct dan_err *e)
{
    return dan_fail(e, DAN_EINVAL, "row %lld of '%s' holds a weight that is no finite number; a model with it cannot be quantised", (long long)row, name);
}

/* Values that are not finite make their row's sum of squares so. */
static int convert(const struct dan_tensor *from, const struct dan_tensor *to, const char *name, struct dan_pool *pool, double *out, struct dan_err *e)
{
    size_t threads = pool ? (size_t)dan_pool_size(pool) : 1, n = (size_t)dan_rows(from);
    struct convert c = {from, to, dan_malloc(2 * threads * (size_t)dan_cols(from) * sizeof(float)), dan_malloc((2 * n + 1) * sizeof(double))};
    double error = 0, power = 0;
    int rc = c.rows && c.part ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to quantise '%s'", name);
    if (!rc) dan_pool_run(pool, convert_share, &c);
    for (size_t r = 0; r < n && !rc; r++) {
        if (!isfinite(c.part[2 * r + 1]))
            rc = dan_quant_no_number((int64_t)r, name, e);
        error += c.part[2 * r];
        power += c.part[2 * r + 1];
    }
    dan_free(c.rows);
    dan_free(c.part);
    *out = power > 0 ? sqrt(error / power) : 0;
    return rc;
}

static int replace(struct dan_store *s, const char *name, const struct dan_dtype *to, struct dan_pool *pool, double *error, struct dan_err *e)
{
    struct dan_store *tmp = NULL;
    const struct dan_tensor from = *dan_store_find(s, name);
    int rc = dan_store_new(&tmp, e);
    if (!rc) rc = dan_store_add(tmp, name, to, from.shape, e);
    if (!rc) rc = convert(&from, dan_store_find(tmp, name), name, pool, error, e);
    if (!rc) rc = dan_store_share(s, name, tmp, name, e);
    dan_store_free(tmp);
    return rc;
}

/* ---- a model ---- */

static int quantize_one(struct dan_lm *lm, const struct dan_graph *g, const char *name, const struct dan_dtype *to,
                        const struct dan_quantize_opts *o, struct dan_quantized *q, struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(lm->store, name);
    int64_t cols = dan_cols(t);
    *q = (struct dan_quantized){.name = name,
                                .before = t->dtype,
                                .after = t->dtype,
                                .shape = t->shape,
                                .bytes_before = dan_tensor_bytes(t),
                                .bytes_after = dan_tensor_bytes(t)};
    q->why = o->keep ? o->keep(o->ctx, name) : NULL;
    if (!q->why) q->why = dan_quant_why_not(g, name, t);
    const struct dan_dtype *fits = cols > 0 ? dan_dtype_for_rows(to, cols) : NULL;
    if (!q->why && !fits) q->why = "its rows are no multiple of the block";
    if (q->why) return DAN_OK;
    if (fits != to) snprintf(q->note, sizeof q->note, "rows of %lld are no multiple of %d", (long long)cols, (int)to->block);
    int rc = replace(lm->store, name, fits, o->pool, &q->error, e);
    q->after = fits;
    q->bytes_after = dan_dtype_bytes(fits, dan_shape_count(&q->shape));
    return rc;
}

int dan_lm_quantize_with(struct dan_lm *lm, const struct dan_dtype *to, const struct dan_quantize_opts *o, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_quantized q;
    struct dan_io io = dan_lm_plain_io(lm);
    int rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        if (dan_is_row_companion(lm->store, dan_store_name(lm->store, i))) continue;
        rc = quantize_one(lm, g, dan_store_name(lm->store, i), to, o, &q, e);
        if (!rc && o->report) o->report(o->ctx, &q);
    }
    dan_graph_free(g);
    return rc;
}

int dan_lm_quantize(struct dan_lm *lm, const struct dan_dtype *to, void (*report)(void *ctx, const struct dan_quantized *q), void *ctx,
                    struct dan_err *e)
{
    return dan_lm_quantize_with(lm, to, &(struct dan_quantize_opts){.report = report, .ctx = ctx}, e);
}
