/* Learned rounding: every weight goes to one of the two levels around it, and which is learned on tr(D H D^T), the squared error of the
 * product over all of the calibration rows at once (so the gradient 2 D H has no noise, and no inputs are kept).
 *
 * AdaRound (Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization"):
 *   h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1),  zeta 1.1, gamma -0.1,  w' = low + (high - low) h(V)
 *   loss + lambda sum c (1 - |2h - 1|^beta), beta from 20 to 2, without the second term in the first fifth; Adam; then h >= 1/2 is high
 *   c = H_jj (high - low)^2, what a whole step of this weight would cost: with one c for all, as in the paper, columns of large inputs
 *   stay between their levels until the last rounding
 *   h(V0) = the place of w between the levels: it begins with the weights as they are
 * SignRound (Cheng et al. 2023, "Optimize weight rounding via signed gradient descent"):
 *   high where place + V >= 1/2, |V| <= 1/2, V -= rate sign(gradient), the rate falling to 0; the best of each row is kept
 *
 * Both end with a descent over single weights: one that is better on its other level, the rest as they are, goes there, until none is.
 *
 * The levels come from the form through put, whatever they are: a table (nf4) has them too. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "quant/rounding.h"

static const float zeta = 1.1f, gamma_ = -0.1f;
static const double lambda = 0.5, rate_ = 0.1;

struct learn {
    struct dan_round_job *job;
    int64_t n;                                 /* N K */
    float *low, *step, *place;                 /* [N,K]: the level below, the distance to the one above (0: no choice), w's place between them */
    float *v, *m, *s;                          /* [N,K]: what is learned, Adam's moments; signround: m is the best choice so far */
    float *d;                                  /* [N,K] w' - w */
    float *h;                                  /* [K,K] H, so that nearest rounding costs N K */
    float *importance;                         /* [K] mean squares: scales are chosen with them */
    float *scratch;                            /* [threads, max(group, K)] */
    double *part, *best;                       /* [N] losses of rows */
    const float *dh;                           /* D H */
    double beta, rate;
    int64_t t;
    bool regular;
};

/* ---- the levels around each weight ---- */

/* The level on the other side of x than v, by stepping away from v until put gives another; v when there is none. */
static float other_level(struct dan_grid *g, int64_t r, int64_t c, float x, float v)
{
    float away = x - v;
    for (int i = 0; i < 24 && away != 0; i++, away *= 2) {
        float u = dan_grid_put(g, r, c, v + away);
        if (u != v) return u;
    }
    return v;
}

static void find_levels(void *ctx, int ith, int nth)
{
    struct learn *l = ctx;
    struct dan_grid *g = l->job->grid;
    for (int64_t r = g->rows * ith / nth; r < g->rows * (ith + 1) / nth; r++)
        for (int64_t c = 0; c < g->cols; c++) {
            int64_t i = r * g->cols + c;
            float x = l->job->w[i];
            if (c % g->group == 0) dan_grid_fit_best(g, r, c, l->job->w + i, l->importance + c, l->scratch + ith * g->cols);
            float v = dan_grid_put(g, r, c, x), u = other_level(g, r, c, x, v);
            l->low[i] = u < v ? u : v;
            l->step[i] = fabsf(u - v);
            l->place[i] = l->step[i] > 0 ? (x - l->low[i]) / l->step[i] : 0;
        }
}

/* ---- D, and what follows from D H ---- */

static void share_rows(const struct learn *l, int ith, int nth, int64_t *lo, int64_t *hi)
{
    int64_t n = l->job->grid->rows;
    *lo = n * ith / nth;
    *hi = n * (ith + 1) / nth;
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static float up(float v)
{
    float h = sigmoid(v) * (zeta - gamma_) + gamma_;
    return h < 0 ? 0 : h > 1 ? 1 : h;
}

static float soft_choice(const struct learn *l, int64_t i) { return l->step[i] > 0 ? up(l->v[i]) : 0; }
static float hard_choice(const struct learn *l, int64_t i) { return l->step[i] > 0 && up(l->v[i]) >= 0.5f ? 1 : 0; }
static float sign_choice(const struct learn *l, int64_t i) { return l->step[i] > 0 && l->place[i] + l->v[i] >= 0.5f ? 1 : 0; }

struct differ { struct learn *l; float (*choice)(const struct learn *l, int64_t i); };

static void set_d(void *ctx, int ith, int nth)
{
    struct differ *f = ctx;
    struct learn *l = f->l;
    int64_t lo, hi, k = l->job->grid->cols;
    share_rows(l, ith, nth, &lo, &hi);
    for (int64_t i = lo * k; i < hi * k; i++) l->d[i] = l->low[i] + l->step[i] * f->choice(l, i) - l->job->w[i];
}

static void row_losses(void *ctx, int ith, int nth)
{
    struct learn *l = ctx;
    int64_t lo, hi, k = l->job->grid->cols;
    share_rows(l, ith, nth, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        double sum = 0;
        for (int64_t i = r * k; i < (r + 1) * k; i++) sum += (double)l->d[i] * (double)l->dh[i];
        l->part[r] = sum;
    }
}

static int evaluate(struct learn *l, struct dan_dense *p, float (*choice)(const struct learn *l, int64_t i), double *loss, struct dan_err *e)
{
    struct differ f = {l, choice};
    dan_pool_run(l->job->o.pool, set_d, &f);
    int rc = dan_dense_run(p, l->d, l->job->grid->rows, l->h, &l->dh, e);
    if (rc || !loss) return rc;
    dan_pool_run(l->job->o.pool, row_losses, l);
    *loss = 0;
    for (int64_t r = 0; r < l->job->grid->rows; r++) *loss += l->part[r];
    return DAN_OK;
}

/* ---- steps ---- */

static void adam(struct learn *l, int64_t i, float g)
{
    float c1 = 1 - powf(0.9f, (float)l->t), c2 = 1 - powf(0.999f, (float)l->t);
    l->m[i] = 0.9f * l->m[i] + 0.1f * g;
    l->s[i] = 0.999f * l->s[i] + 0.001f * g * g;
    l->v[i] -= (float)l->rate * (l->m[i] / c1) / (sqrtf(l->s[i] / c2) + 1e-20f);
}

static void adaround_step(void *ctx, int ith, int nth)
{
    struct learn *l = ctx;
    int64_t lo, hi, k = l->job->grid->cols;
    share_rows(l, ith, nth, &lo, &hi);
    for (int64_t i = lo * k; i < hi * k; i++) {
        float s = sigmoid(l->v[i]), h = s * (zeta - gamma_) + gamma_;
        if (!(l->step[i] > 0)) continue;
        float inside = h > 0 && h < 1 ? s * (1 - s) * (zeta - gamma_) : 0, g = 2 * l->dh[i] * l->step[i];
        float a = 2 * h - 1, cost = l->h[i % k * (k + 1)] * l->step[i] * l->step[i];
        if (l->regular && inside > 0) g -= (float)(lambda * l->beta) * 2 * cost * powf(fabsf(a), (float)l->beta - 1) * (a < 0 ? -1.0f : 1.0f);
        adam(l, i, g * inside);
    }
}

static void signround_step(void *ctx, int ith, int nth)
{
    struct learn *l = ctx;
    int64_t lo, hi, k = l->job->grid->cols;
    share_rows(l, ith, nth, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        bool better = l->part[r] < l->best[r];
        if (better) l->best[r] = l->part[r];
        for (int64_t i = r * k; i < (r + 1) * k; i++) {
            if (better) l->m[i] = sign_choice(l, i);
            float g = l->dh[i], v = l->v[i] - (g > 0 ? (float)l->rate : g < 0 ? -(float)l->rate : 0);
            l->v[i] = v < -0.5f ? -0.5f : v > 0.5f ? 0.5f : v;
        }
    }
}

static void put_choices(void *ctx, int ith, int nth)
{
    struct differ *f = ctx;
    struct learn *l = f->l;
    struct dan_grid *g = l->job->grid;
    int64_t lo, hi;
    share_rows(l, ith, nth, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        for (int64_t c = 0; c < g->cols; c++) {
            int64_t i = r * g->cols + c;
            dan_grid_put(g, r, c, l->low[i] + l->step[i] * f->choice(l, i));
        }
}

static float best_choice(const struct learn *l, int64_t i) { return l->m[i]; }

/* Weight i of a row to its other level by delta: what that adds to the loss. */
static float change(const struct learn *l, const float *dh, int64_t k, int64_t i, float delta)
{
    return delta * (2 * dh[i] + delta * l->h[i * k + i]);
}

/* m[K] are the row's choices, dh[K] its D H. */
static void descend_row(const struct learn *l, const float *step, float *m, float *dh, int64_t k)
{
    bool moved = true;
    for (int sweep = 0; sweep < 16 && moved; sweep++) {
        moved = false;
        for (int64_t i = 0; i < k; i++) {
            float delta = m[i] > 0 ? -step[i] : step[i];
            if (!(step[i] > 0) || !(change(l, dh, k, i, delta) < -1e-6f * delta * delta * l->h[i * k + i])) continue;
            for (int64_t j = 0; j < k; j++) dh[j] += delta * l->h[i * k + j];
            m[i] = m[i] > 0 ? 0 : 1;
            moved = true;
        }
    }
}

static void descend(void *ctx, int ith, int nth)
{
    struct learn *l = ctx;
    int64_t lo, hi, k = l->job->grid->cols;
    float *dh = l->scratch + ith * k;
    share_rows(l, ith, nth, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        memcpy(dh, l->dh + r * k, (size_t)k * sizeof *dh);
        descend_row(l, l->step + r * k, l->m + r * k, dh, k);
    }
}

/* choice becomes m, and m better. */
static int finish(struct learn *l, struct dan_dense *p, float (*choice)(const struct learn *l, int64_t i), struct dan_err *e)
{
    for (int64_t i = 0; i < l->n; i++) l->m[i] = choice(l, i);
    int rc = evaluate(l, p, best_choice, NULL, e);
    if (!rc) dan_pool_run(l->job->o.pool, descend, l);
    return rc;
}

static int adaround(struct learn *l, struct dan_dense *p, struct dan_err *e)
{
    int64_t steps = l->job->o.steps > 0 ? l->job->o.steps : 200, quiet = steps / 5;
    double soft = 0;
    int rc = DAN_OK;
    for (int64_t i = 0; i < l->n; i++) {       /* h(V0) = place */
        float x = l->place[i] < 0.001f ? 0.001f : l->place[i] > 0.999f ? 0.999f : l->place[i];
        l->v[i] = -logf((zeta - gamma_) / (x - gamma_) - 1);
    }
    l->rate = rate_;
    for (l->t = 1; l->t <= steps && !rc; l->t++) {
        l->regular = l->t > quiet;
        l->beta = 2 + 9 * (1 + cos(3.14159265358979 * (double)(l->t - quiet) / (double)(steps - quiet)));
        rc = evaluate(l, p, soft_choice, NULL, e);
        if (!rc) dan_pool_run(l->job->o.pool, adaround_step, l);
    }
    if (!rc) rc = evaluate(l, p, soft_choice, &soft, e);
    l->job->report->soft = soft;
    return rc;
}

static int signround(struct learn *l, struct dan_dense *p, struct dan_err *e)
{
    int64_t steps = l->job->o.steps > 0 ? l->job->o.steps : 200;
    double loss;
    int rc = DAN_OK;
    memset(l->v, 0, (size_t)l->n * sizeof *l->v);
    for (int64_t r = 0; r < l->job->grid->rows; r++) l->best[r] = DBL_MAX;
    for (l->t = 0; l->t <= steps && !rc; l->t++) {
        l->rate = (1 - (double)l->t / (double)steps) / (double)steps;
        rc = evaluate(l, p, sign_choice, &loss, e);
        if (!rc) dan_pool_run(l->job->o.pool, signround_step, l);
    }
    return rc;
}

/* ---- around it ---- */

static int take_memory(struct learn *l, struct dan_err *e)
{
    int64_t rows = l->job->grid->rows, k = l->job->grid->cols, threads = l->job->o.pool ? dan_pool_size(l->job->o.pool) : 1;
    float **where[] = {&l->low, &l->step, &l->place, &l->v, &l->m, &l->s, &l->d};
    float *f = dan_calloc((size_t)(7 * l->n + k * k + threads * k), sizeof *f);
    l->part = dan_calloc((size_t)(2 * rows + 1), sizeof *l->part);
    l->low = f;
    if (!f || !l->part) return dan_fail(e, DAN_ENOMEM, "not enough memory to learn the rounding of a matrix [%lld,%lld]; use gptq", (long long)rows, (long long)k);
    for (int i = 0; i < 7; i++) *where[i] = f + i * l->n;
    l->h = f + 7 * l->n;
    l->scratch = l->h + k * k;
    l->best = l->part + rows;
    return DAN_OK;
}

static float nearest_choice(const struct learn *l, int64_t i) { return l->step[i] > 0 && l->place[i] >= 0.5f ? 1 : 0; }

/* H as f32, scaled so that nearest rounding costs N K; *scale: what a loss is multiplied by. */
static int scale_h(struct learn *l, struct dan_dense *p, double *scale, struct dan_err *e)
{
    const struct dan_moments *x = l->job->x;
    double loss = 0;
    for (int64_t i = 0; i < x->k * x->k; i++) l->h[i] = (float)(x->h[i] / (double)x->n);
    int rc = evaluate(l, p, nearest_choice, &loss, e);
    double by = loss > 0 ? (double)l->n / loss : 1;
    for (int64_t i = 0; i < x->k * x->k; i++) l->h[i] = (float)(x->h[i] / (double)x->n * by);
    *scale = by / (double)x->n;
    return rc;
}

static int learn(struct dan_round_job *j, int (*method)(struct learn *, struct dan_dense *, struct dan_err *), bool sign, struct dan_err *e)
{
    struct learn l = {.job = j, .n = j->grid->rows * j->grid->cols};
    struct dan_dense *p = NULL;
    double scale = 1;
    int rc = take_memory(&l, e);
    if (!rc) rc = dan_round_importance(j->x, &l.importance, e);
    if (!rc) rc = dan_dense_new(j->grid->rows, j->grid->cols, false, j->o.pool, &p, e);
    if (!rc) dan_pool_run(j->o.pool, find_levels, &l);
    if (!rc) rc = scale_h(&l, p, &scale, e);
    if (!rc) rc = method(&l, p, e);
    if (!rc) rc = finish(&l, p, sign ? best_choice : hard_choice, e);
    struct differ f = {&l, best_choice};
    if (!rc) dan_pool_run(j->o.pool, put_choices, &f);
    if (!sign) j->report->soft /= scale;       /* as a loss; dan_round divides it by tr(W H W^T) */
    dan_dense_free(p);
    dan_free(l.low);
    dan_free(l.part);
    dan_free(l.importance);
    return rc;
}

static int run_adaround(struct dan_round_job *j, struct dan_err *e) { return learn(j, adaround, false, e); }
static int run_signround(struct dan_round_job *j, struct dan_err *e) { return learn(j, signround, true, e); }

const struct dan_round_method dan_round_adaround = {.name = "adaround",
                                                    .doc = "up or down learned by gradient descent on the product's error",
                                                    .needs = DAN_NEEDS_H,
                                                    .steps = true,
                                                    .run = run_adaround};
const struct dan_round_method dan_round_signround = {.name = "signround",
                                                     .doc = "up or down learned by signed gradients on the product's error",
                                                     .needs = DAN_NEEDS_H,
                                                     .steps = true,
                                                     .run = run_signround};
