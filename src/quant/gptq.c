/* GPTQ (Frantar et al. 2022, "GPTQ: accurate post-training quantization for generative pre-trained transformers"): columns one after
 * the other; what a column's rounding did to the output is made good by the columns that are not yet rounded.
 *
 *   H^-1 = U^T U;   for column c:  q = nearest(w_c),  e = (w_c - q) / U_cc,  w_k -= e U_ck for k > c;   sum e^2 = tr(D H D^T)
 *
 * A group's scales come from the weights as they are when its first column is reached; with act_order, where a group's columns are
 * scattered, from the first weights.  A column that was always 0 in the calibration text is rounded to nearest by itself: setting it
 * to 0, as the first program did, would lose it for every other text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if !__has_include(<lapacke.h>)
#error "lapacke.h is missing: install liblapacke-dev (Debian) or LAPACKE"
#endif
#include <lapacke.h>
#include "base/mem.h"
#include "quant/rounding.h"

enum { BLOCK = 128, ROWS = 8, MAX_TRIES = 30 };

/* ---- the factor ---- */

struct column { double value; int64_t at; };

static int falling(const void *a, const void *b)
{
    const struct column *x = a, *y = b;
    return x->value < y->value ? 1 : x->value > y->value ? -1 : x->at < y->at ? -1 : 1;
}

static int put_in_order(const struct dan_moments *x, bool act_order, int64_t *order, struct dan_err *e)
{
    struct column *c = dan_malloc((size_t)(x->k + 1) * sizeof *c);
    if (!c) return dan_fail(e, DAN_ENOMEM, "not enough memory to order %lld columns", (long long)x->k);
    for (int64_t i = 0; i < x->k; i++) c[i] = (struct column){x->h[i * x->k + i], i};
    if (act_order) qsort(c, (size_t)x->k, sizeof *c, falling);
    for (int64_t i = 0; i < x->k; i++) order[i] = c[i].at;
    dan_free(c);
    return DAN_OK;
}

/* a = H/n in order, with lambda on the diagonal. */
static void load(const struct dan_moments *x, const struct dan_gptq_factor *f, double *a)
{
    double n = (double)x->n;
    for (int64_t i = 0; i < x->k; i++) {
        const double *h = x->h + f->order[i] * x->k;
        for (int64_t j = 0; j < x->k; j++) a[i * x->k + j] = h[f->order[j]] / n;
        double d = a[i * x->k + i];
        a[i * x->k + i] = d > 0 ? d + f->lambda : 1 + f->lambda;
    }
}

/* a -> U with a^-1 = U^T U.  Row-major upper is what LAPACK calls the same triangle by that order. */
static bool invert(double *a, lapack_int k)
{
    if (LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', k, a, k) || LAPACKE_dpotri(LAPACK_ROW_MAJOR, 'L', k, a, k)) return false;
    for (lapack_int i = 0; i < k; i++)
        for (lapack_int j = 0; j < i; j++) a[(size_t)j * (size_t)k + (size_t)i] = a[(size_t)i * (size_t)k + (size_t)j];
    if (LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'U', k, a, k)) return false;
    for (lapack_int i = 0; i < k; i++)
        for (lapack_int j = 0; j < i; j++) a[(size_t)i * (size_t)k + (size_t)j] = 0;
    return true;
}

static bool all_finite(const double *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(a[i])) return false;
    return true;
}

static int factorise(const struct dan_moments *x, struct dan_gptq_factor *f, double mean, struct dan_err *e)
{
    for (; isfinite(mean) && f->retries < MAX_TRIES; f->retries++, f->damp *= 3) {
        f->lambda = f->damp * mean;
        load(x, f, f->u);
        if (!all_finite(f->u, x->k * x->k)) break;
        if (invert(f->u, (lapack_int)x->k) && all_finite(f->u, x->k * x->k)) return DAN_OK;
    }
    return dan_fail(e, DAN_EINVAL, "the second moments of the inputs cannot be inverted, even with damping %.3g; use more calibration text, or another method",
                    f->damp);
}

int dan_gptq_factor(const struct dan_moments *x, const struct dan_round_opts *o, struct dan_gptq_factor *out, struct dan_err *e)
{
    double mean = 0;
    *out = (struct dan_gptq_factor){.damp = o->damp > 0 ? o->damp : 0.01};
    if (x->k > 46340) return dan_fail(e, DAN_EUNSUPPORTED, "gptq over %lld columns is too large; use imatrix", (long long)x->k);
    for (int64_t i = 0; i < x->k; i++) {
        mean += x->h[i * x->k + i] / (double)x->n / (double)x->k;
        out->dead += !(x->h[i * x->k + i] > 0);
    }
    out->u = dan_malloc((size_t)x->k * (size_t)x->k * sizeof(double));
    out->order = dan_malloc((size_t)(x->k + 1) * sizeof(int64_t));
    int rc = out->u && out->order ? put_in_order(x, o->act_order, out->order, e)
                                  : dan_fail(e, DAN_ENOMEM, "not enough memory for gptq over %lld columns", (long long)x->k);
    if (!rc) rc = factorise(x, out, mean <= 0 ? 1 : mean, e);
    if (rc) dan_gptq_factor_release(out);
    return rc;
}

void dan_gptq_factor_release(struct dan_gptq_factor *f)
{
    dan_free(f->u);
    dan_free(f->order);
    f->u = NULL;
    f->order = NULL;
}

/* ---- the columns ---- */

struct columns {
    struct dan_grid *g;
    const float *w, *importance;
    const struct dan_gptq_factor *f;
    const struct dan_round_opts *o;
    double *e2;                                /* [N] */
    double *scratch;                           /* a thread: ROWS rows of [K], ROWS of errors [block] and two of floats [group] */
    int64_t block;
};

static size_t scratch_of(const struct columns *c) { return (size_t)(ROWS * (c->g->cols + c->block) + 2 * c->g->group + 2); }

static void choose_scales(const struct columns *c, int64_t row, int64_t col, const float *x, float *tmp)
{
    const float *importance = c->importance ? c->importance + col : NULL;
    if (c->o->plain_scales) dan_grid_fit(c->g, row, col, x, NULL);
    else dan_grid_fit_best(c->g, row, col, x, importance, tmp);
}

/* Scales of the group that begins at column col, from the weights as they are now. */
static void refresh(const struct columns *c, int64_t row, int64_t col, const double *w, float *tmp)
{
    for (int64_t i = 0; i < c->g->group; i++) tmp[c->g->group + i] = (float)w[col + i];
    choose_scales(c, row, col, tmp + c->g->group, tmp);
}

/* Rounds column c0 + i of `rows` rows and mends the rest of the block. */
static void one_column(const struct columns *c, int64_t row0, int64_t rows, int64_t at, int64_t end, double *w, double *errors, float *tmp)
{
    int64_t k = c->g->cols, col = c->f->order[at];
    const double *u = c->f->u + at * k;
    for (int64_t r = 0; r < rows; r++) {
        double *x = w + r * k;
        if (!c->o->act_order && at % c->g->group == 0) refresh(c, row0 + r, at, x, tmp);
        double error = (x[at] - (double)dan_grid_put(c->g, row0 + r, col, (float)x[at])) / u[at];
        for (int64_t j = at + 1; j < end; j++) x[j] -= error * u[j];
        errors[r * c->block + at % c->block] = error;
        c->e2[row0 + r] += error * error;
    }
}

/* The columns behind the block, in the same order as if they had been mended one by one: the same bits for any block.  A group that
 * reaches beyond the block needs them up to date, so a block is never shorter than a group. */
static void mend_rest(const struct columns *c, int64_t rows, int64_t at, int64_t end, double *w, const double *errors)
{
    int64_t k = c->g->cols;
    for (int64_t i = at; i < end; i++) {
        const double *u = c->f->u + i * k;
        for (int64_t r = 0; r < rows; r++) {
            double error = errors[r * c->block + (i - at)], *x = w + r * k;
            for (int64_t j = end; j < k; j++) x[j] -= error * u[j];
        }
    }
}

static void some_rows(const struct columns *c, int64_t row0, int64_t rows, double *scratch)
{
    int64_t k = c->g->cols;
    double *w = scratch, *errors = w + ROWS * k;
    float *tmp = (float *)(errors + ROWS * c->block);
    for (int64_t r = 0; r < rows; r++) {
        const float *from = c->w + (row0 + r) * k;
        for (int64_t j = 0; j < k; j++) w[r * k + j] = (double)from[c->f->order[j]];
        for (int64_t j = 0; c->o->act_order && j < k; j += c->g->group) choose_scales(c, row0 + r, j, from + j, tmp);
    }
    for (int64_t at = 0; at < k; at += c->block) {
        int64_t end = at + c->block < k ? at + c->block : k;
        for (int64_t i = at; i < end; i++) one_column(c, row0, rows, i, end, w, errors, tmp);
        mend_rest(c, rows, at, end, w, errors);
    }
}

static void all_rows(void *ctx, int ith, int nth)
{
    struct columns *c = ctx;
    int64_t n = (c->g->rows + ROWS - 1) / ROWS;
    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        int64_t row = i * ROWS, rows = c->g->rows - row < ROWS ? c->g->rows - row : ROWS;
        some_rows(c, row, rows, c->scratch + (size_t)ith * scratch_of(c));
    }
}

int dan_gptq_columns(struct dan_grid *g, const float *w, const struct dan_gptq_factor *f, const struct dan_round_opts *o, const float *importance,
                     double *e2, struct dan_err *e)
{
    struct columns c = {.g = g, .w = w, .f = f, .o = o, .importance = importance};
    int64_t block = o->block > 0 ? o->block : BLOCK;
    c.block = (block + g->group - 1) / g->group * g->group;
    c.e2 = dan_calloc((size_t)g->rows + 1, sizeof(double));
    c.scratch = dan_malloc((o->pool ? (size_t)dan_pool_size(o->pool) : 1) * scratch_of(&c) * sizeof(double));
    int rc = c.e2 && c.scratch ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for gptq over %lld columns", (long long)g->cols);
    if (!rc) dan_pool_run(o->pool, all_rows, &c);
    *e2 = 0;
    for (int64_t r = 0; r < g->rows && !rc; r++) *e2 += c.e2[r];
    dan_free(c.e2);
    dan_free(c.scratch);
    return rc;
}

static int run(struct dan_round_job *j, struct dan_err *e)
{
    struct dan_gptq_factor f;
    float *importance = NULL;
    double e2;
    int rc = dan_gptq_factor(j->x, &j->o, &f, e);
    if (rc) return rc;
    rc = dan_round_importance(j->x, &importance, e);
    if (!rc) rc = dan_gptq_columns(j->grid, j->w, &f, &j->o, importance, &e2, e);
    j->report->damp = f.damp;
    j->report->retries = f.retries;
    j->report->dead = f.dead;
    dan_free(importance);
    dan_gptq_factor_release(&f);
    return rc;
}

const struct dan_round_method dan_round_gptq = {.name = "gptq",
                                                .doc = "columns in turn, each making good what rounding those before it did to the output",
                                                .needs = DAN_NEEDS_H,
                                                .steps = true,
                                                .run = run};
