#include "quant/round.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "quant/rounding.h"

const struct dan_round_method *const dan_round_methods[] = {&dan_round_nearest, &dan_round_mse,      &dan_round_imatrix, &dan_round_gptq,
                                                            &dan_round_adaround, &dan_round_signround, NULL};

int dan_round_method_find(const char *name, const struct dan_round_method **out, struct dan_err *e)
{
    struct dan_str list = {0};
    for (int i = 0; dan_round_methods[i]; i++) {
        if (!strcmp(dan_round_methods[i]->name, name)) {
            *out = dan_round_methods[i];
            dan_str_release(&list);
            return DAN_OK;
        }
        dan_str_printf(&list, "%s%s", i ? ", " : "", dan_round_methods[i]->name);
    }
    int rc = dan_fail(e, DAN_EINVAL, "unknown rounding method '%s'; use one of: %s", name, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

int dan_round_importance(const struct dan_moments *x, float **out, struct dan_err *e)
{
    float *f = dan_malloc((size_t)(x->k + 1) * sizeof *f);
    if (!f) return dan_fail(e, DAN_ENOMEM, "not enough memory for %lld weights of columns", (long long)x->k);
    for (int64_t j = 0; j < x->k; j++) f[j] = (float)((double)(float)x->squares[j] / (double)(x->n > 0 ? x->n : 1));    /* sums as files keep them */
    *out = f;
    return DAN_OK;
}

/* ---- row by row: nearest, mse, imatrix ---- */

struct rows { struct dan_round_job *job; const float *importance; float *scratch; bool search; };

static void round_row(struct dan_round_job *j, int64_t r, const float *importance, bool search, float *scratch)
{
    struct dan_grid *g = j->grid;
    const float *x = j->w + r * g->cols;
    if (!search) {
        dan_grid_row(g, r, x, importance);
        return;
    }
    for (int64_t c = 0; c < g->cols; c += g->group) {
        dan_grid_fit_best(g, r, c, x + c, importance ? importance + c : NULL, scratch);
        for (int64_t i = 0; i < g->group; i++) dan_grid_put(g, r, c + i, x[c + i]);
    }
}

static void round_rows(void *ctx, int ith, int nth)
{
    struct rows *s = ctx;
    struct dan_grid *g = s->job->grid;
    for (int64_t r = g->rows * ith / nth; r < g->rows * (ith + 1) / nth; r++)
        round_row(s->job, r, s->importance, s->search, s->scratch + ith * g->group);
}

static int row_by_row(struct dan_round_job *j, const float *importance, bool search, struct dan_err *e)
{
    size_t threads = j->o.pool ? (size_t)dan_pool_size(j->o.pool) : 1;
    struct rows s = {.job = j, .importance = importance, .search = search, .scratch = dan_malloc(threads * (size_t)j->grid->group * sizeof(float))};
    if (!s.scratch) return dan_fail(e, DAN_ENOMEM, "not enough memory to round a matrix");
    dan_pool_run(j->o.pool, round_rows, &s);
    dan_free(s.scratch);
    return DAN_OK;
}

static int run_nearest(struct dan_round_job *j, struct dan_err *e) { return row_by_row(j, NULL, false, e); }

/* K-quants, and what has no fit and put, search in from_f32. */
static bool searches(const struct dan_grid *g) { return dan_quant_form_steps(&g->form) && g->group <= 128 + g->cols * (g->form.kind == DAN_FORM_ROWS); }

static int run_mse(struct dan_round_job *j, struct dan_err *e) { return row_by_row(j, NULL, searches(j->grid), e); }

/* The format's own weighted rule where it has one (llama.cpp's), else the search with weights. */
static int run_imatrix(struct dan_round_job *j, struct dan_err *e)
{
    float *importance = NULL;
    int rc = dan_round_importance(j->x, &importance, e);
    bool own = j->grid->form.kind == DAN_FORM_BLOCKS && j->grid->form.blocks->from_f32_weighted;
    if (!rc) rc = row_by_row(j, importance, !own && searches(j->grid), e);
    dan_free(importance);
    return rc;
}

const struct dan_round_method dan_round_nearest = {
    .name = "nearest", .doc = "scales from the largest weight, levels by rounding (the format's own rule)", .run = run_nearest};
const struct dan_round_method dan_round_mse = {
    .name = "mse", .doc = "scales searched for the least squared error of the weights", .run = run_mse};
const struct dan_round_method dan_round_imatrix = {
    .name = "imatrix", .doc = "errors weighted by the mean square of their input column", .needs = DAN_NEEDS_SQUARES, .run = run_imatrix};

/* ---- what it cost ---- */

struct difference { const struct dan_grid *g; const float *w; float *d; double *part; };

/* part[2r], [2r + 1]: squares of row r's differences and weights; d may be NULL. */
static void row_difference(const struct difference *s, int64_t r, float *v)
{
    int64_t k = s->g->cols;
    double error = 0, power = 0;
    dan_grid_values(s->g, r, v);
    for (int64_t i = 0; i < k; i++) {
        float w = s->w[r * k + i], d = v[i] - w;
        error += (double)d * (double)d;
        power += (double)w * (double)w;
        if (s->d) s->d[r * k + i] = d;
    }
    s->part[2 * r] = error;
    s->part[2 * r + 1] = power;
}

struct differences { struct difference s; float *rows; };

static void all_differences(void *ctx, int ith, int nth)
{
    struct differences *a = ctx;
    int64_t n = a->s.g->rows;
    for (int64_t r = n * ith / nth; r < n * (ith + 1) / nth; r++) row_difference(&a->s, r, a->rows + ith * a->s.g->cols);
}

/* error, power: sums of squares of D and W; d[N,K] gets D when it is not NULL. */
static int differences(const struct dan_grid *g, const float *w, float *d, struct dan_pool *pool, double *error, double *power, struct dan_err *e)
{
    size_t threads = pool ? (size_t)dan_pool_size(pool) : 1;
    struct differences a = {{g, w, d, dan_malloc((size_t)(2 * g->rows + 1) * sizeof(double))}, dan_malloc(threads * (size_t)g->cols * sizeof(float))};
    int rc = a.s.part && a.rows ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to compare a matrix of %lld rows", (long long)g->rows);
    if (!rc) {
        dan_pool_run(pool, all_differences, &a);
        *error = *power = 0;
        for (int64_t r = 0; r < g->rows; r++) *error += a.s.part[2 * r], *power += a.s.part[2 * r + 1];
    }
    dan_free(a.s.part);
    dan_free(a.rows);
    return rc;
}

/* Row i of D H, then its product with row i of D, in f64. */
struct quadratic { const float *d; const double *h; double *part; int64_t rows, k; };

static void quadratic_rows(void *ctx, int ith, int nth)
{
    struct quadratic *q = ctx;
    for (int64_t r = q->rows * ith / nth; r < q->rows * (ith + 1) / nth; r++) {
        const float *d = q->d + r * q->k;
        double sum = 0;
        for (int64_t i = 0; i < q->k; i++) {
            if (d[i] == 0) continue;
            const double *h = q->h + i * q->k;
            double dot = 0;
            for (int64_t j = 0; j < q->k; j++) dot += h[j] * (double)d[j];
            sum += dot * (double)d[i];
        }
        q->part[r] = sum;
    }
}

static int quadratic(const float *d, int64_t rows, const struct dan_moments *x, struct dan_pool *pool, double *out, struct dan_err *e)
{
    struct quadratic q = {d, x->h, dan_malloc((size_t)(rows + 1) * sizeof(double)), rows, x->k};
    if (!q.part) return dan_fail(e, DAN_ENOMEM, "not enough memory for the loss of a matrix");
    dan_pool_run(pool, quadratic_rows, &q);
    *out = 0;
    for (int64_t r = 0; r < rows; r++) *out += q.part[r];
    dan_free(q.part);
    return DAN_OK;
}

int dan_round_loss(const struct dan_grid *g, const float *w, const struct dan_moments *x, struct dan_pool *pool, double *out, struct dan_err *e)
{
    double error = 0, power = 0;
    float *d = dan_malloc((size_t)(g->rows * g->cols + 1) * sizeof *d);
    int rc = d ? differences(g, w, d, pool, &error, &power, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for the loss of a matrix");
    if (!rc) rc = quadratic(d, g->rows, x, pool, out, e);
    dan_free(d);
    return rc;
}

/* ---- the door ---- */

static int check(const struct dan_round_method *m, const struct dan_round_job *j, struct dan_err *e)
{
    const struct dan_grid *g = j->grid;
    if (m->needs != DAN_NEEDS_NOTHING && (!j->x || j->x->n < 1))
        return dan_fail(e, DAN_EINVAL, "method '%s' needs inputs of the product; give --calibration FILE", m->name);
    if (m->needs == DAN_NEEDS_H && !j->x->h) return dan_fail(e, DAN_EINVAL, "method '%s' needs the second moments of the inputs", m->name);
    if (j->x && j->x->k != g->cols)
        return dan_fail(e, DAN_ESHAPE, "inputs have %lld columns, the matrix %lld", (long long)j->x->k, (long long)g->cols);
    if (m->steps && !dan_quant_form_steps(&g->form))
        return dan_fail(e, DAN_EUNSUPPORTED, "'%s' cannot be written level by level, which '%s' needs; use another format or --method mse",
                        g->form.name, m->name);
    for (int64_t i = 0; i < g->rows * g->cols; i++)
        if (!isfinite(j->w[i]))
            return dan_fail(e, DAN_EINVAL, "row %lld holds a weight that is no finite number", (long long)(i / g->cols));
    return DAN_OK;
}

/* Another method into a fresh grid of the same form; its loss. */
static int attempt(const struct dan_round_method *m, const struct dan_round_job *j, struct dan_grid *g, double *loss, struct dan_err *e)
{
    struct dan_round_report r = {0};
    struct dan_round_job other = *j;
    other.grid = g;
    other.report = &r;
    int rc = dan_grid_new(&j->grid->form, j->grid->rows, j->grid->cols, j->w, g, e);
    if (!rc) rc = m->run(&other, e);
    return rc ? rc : dan_round_loss(g, j->w, j->x, j->o.pool, loss, e);
}

/* Replaces the result by m's where that is better on H. */
static int compare(const struct dan_round_method *m, struct dan_round_job *j, double *loss, double *of_m, struct dan_err *e)
{
    struct dan_grid g = {0};
    int rc = attempt(m, j, &g, of_m, e);
    if (!rc && !j->o.any && *of_m < *loss) {
        struct dan_grid t = *j->grid;
        *j->grid = g;
        g = t;
        *loss = *of_m;
        j->report->kept = m->name;
    }
    dan_grid_release(&g);
    return rc;
}

static int compare_all(const struct dan_round_method *m, struct dan_round_job *j, struct dan_err *e)
{
    struct dan_round_report *r = j->report;
    double loss, nearest, mse, power = 0;
    int rc = dan_round_loss(j->grid, j->w, j->x, j->o.pool, &loss, e);
    if (!rc) rc = quadratic(j->w, j->grid->rows, j->x, j->o.pool, &power, e);
    nearest = loss;
    if (!rc && m != &dan_round_nearest) rc = compare(&dan_round_nearest, j, &loss, &nearest, e);
    if (!rc && m->needs == DAN_NEEDS_H) rc = compare(&dan_round_mse, j, &loss, &mse, e);
    if (rc || !(power > 0)) return rc;
    r->loss = loss / power;
    r->loss_nearest = nearest / power;
    if (r->soft >= 0) r->soft /= power;
    return rc;
}

int dan_round(const struct dan_round_method *m, struct dan_round_job *j, struct dan_err *e)
{
    struct dan_round_report own;
    double error = 0, power = 0;
    if (!j->report) j->report = &own;
    *j->report = (struct dan_round_report){.loss = -1, .loss_nearest = -1, .soft = -1, .kept = m->name};
    int rc = check(m, j, e);
    if (!rc) rc = m->run(j, e);
    if (!rc && j->x && j->x->h) rc = compare_all(m, j, e);
    if (!rc) rc = differences(j->grid, j->w, NULL, j->o.pool, &error, &power, e);
    if (!rc) j->report->error = power > 0 ? sqrt(error / power) : 0;
    if (j->report == &own) j->report = NULL;
    return rc;
}
