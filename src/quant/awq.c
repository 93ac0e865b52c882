/* AWQ: scales from the size of activations, then clipping. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "quant/equal_impl.h"

enum { ROWS = 256, RATIOS = 20, CUTS = 10, WIDEST_GROUP = 256 };

struct awq { struct dan_lm *lm; const struct dan_awq_opts *o; struct dan_folds folds; struct dan_channel_list seen; };

/* mean[k]^r, the largest times the smallest being 1; the means are tied. */
static void scales(const float *mean, int64_t k, double r, float *s)
{
    double least = INFINITY, most = 0;
    for (int64_t j = 0; j < k; j++) {
        s[j] = (float)fmax(pow((double)mean[j], r), 1e-4);
        least = fmin(least, (double)s[j]);
        most = fmax(most, (double)s[j]);
    }
    double by = sqrt(least * most);
    for (int64_t j = 0; j < k; j++) s[j] = (float)((double)s[j] / by);
}

static int search(struct awq *a, const struct dan_fold *f, const float *mean, float *s, float *best, struct dan_equalised *g, struct dan_err *e)
{
    struct dan_search t = {.lm = a->lm, .fold = f, .ch = &a->seen.v[f->input], .pool = a->o->pool, .trial = a->o->trial};
    int rc = dan_search_open(&t, e);
    g->after = INFINITY;
    for (int i = 0; i < RATIOS && !rc; i++) {
        double err;
        scales(mean, f->k, (double)i / RATIOS, s);
        rc = dan_search_error(&t, s, &err, e);
        if (rc) break;
        if (i == 0) g->before = err;
        if (!(err < g->after)) continue;
        g->after = err;
        g->value = (double)i / RATIOS;
        memcpy(best, s, (size_t)f->k * sizeof *s);
    }
    dan_search_close(&t);
    return rc;
}

static void divide_rows(struct dan_channels *c, const float *s)
{
    for (int64_t i = 0; i < c->n * c->k; i++) c->x[i] /= s[i % c->k];
}

/* Finds the exponent, folds the scales, and leaves the kept rows as the scaled weights will see them. */
static int scale_group(struct awq *a, const struct dan_fold *f, struct dan_equalised *g, struct dan_err *e)
{
    struct dan_channels *c = &a->seen.v[f->input];
    size_t k = (size_t)f->k;
    float *room = dan_calloc(3 * k, sizeof *room), *mean = room, *s = room + k, *best = room + 2 * k;
    if (!room) return dan_fail(e, DAN_ENOMEM, "not enough memory for scales of '%s'", f->to[0]);
    for (size_t j = 0; j < k; j++) mean[j] = (float)(c->sum[j] / (double)(c->count ? c->count : 1));
    dan_fold_tie(f, mean);
    int rc = search(a, f, mean, s, best, g, e);
    if (!rc && g->value > 0) {
        g->least = g->most = best[0];
        for (size_t j = 0; j < k; j++) {
            g->least = fminf(g->least, best[j]);
            g->most = fmaxf(g->most, best[j]);
        }
        rc = dan_fold_apply(a->lm, f, best, e);
        if (!rc) divide_rows(c, best);
    }
    dan_free(room);
    return rc;
}

/* --- clipping */

struct clip {
    const struct dan_trial *trial;
    float  *w;                                 /* [n,k], cut in place */
    int64_t n, k, group;
    float  *gram;                              /* [k / group, group, group]: sums of x_i x_j */
    float  *room;                              /* a thread's: 4 k floats, and k / group losses */
};

static void make_gram(const struct clip *c, const struct dan_channels *ch)
{
    int64_t g = c->group;
    memset(c->gram, 0, (size_t)(c->k * g) * sizeof *c->gram);
    for (int64_t r = 0; r < ch->n; r++)
        for (int64_t b = 0; b < c->k; b += g) {
            const float *x = ch->x + r * c->k + b;
            float *to = c->gram + b * g;
            for (int64_t i = 0; i < g; i++)
                for (int64_t j = 0; j < g; j++) to[i * g + j] += x[i] * x[j];
        }
}

/* d^T G d: the squared error of outputs when a group's weights are off by d. */
static double quadratic(const float *gram, const float *d, int64_t g)
{
    double sum = 0;
    for (int64_t i = 0; i < g; i++) {
        float dot = 0;
        for (int64_t j = 0; j < g; j++) dot += gram[i * g + j] * d[j];
        sum += (double)dot * (double)d[i];
    }
    return sum;
}

static void cut(const float *w, float *out, int64_t k, int64_t group, float part)
{
    for (int64_t b = 0; b < k; b += group) {
        float most = 0;
        for (int64_t j = b; j < b + group; j++) most = fmaxf(most, fabsf(w[j]));
        for (int64_t j = b; j < b + group; j++) out[j] = fmaxf(-part * most, fminf(part * most, w[j]));
    }
}

static void clip_row(const struct clip *c, float *w, float *room)
{
    int64_t k = c->k, g = c->group;
    float *cutted = room, *q = room + k, *scratch = room + 2 * k, *best = room + 3 * k, *least = room + 4 * k;
    for (int i = 0; i < CUTS; i++) {
        cut(w, cutted, k, g, 1 - 0.05f * (float)i);
        c->trial->row(c->trial->ctx, cutted, q, k, scratch);
        for (int64_t j = 0; j < k; j++) q[j] -= w[j];
        for (int64_t b = 0; b < k; b += g) {
            float err = (float)quadratic(c->gram + b * g, q + b, g);
            if (i && !(err < least[b / g])) continue;
            least[b / g] = err;
            memcpy(best + b, cutted + b, (size_t)g * sizeof *best);
        }
    }
    memcpy(w, best, (size_t)k * sizeof *w);
}

static void clip_rows(void *ctx, int ith, int nth)
{
    const struct clip *c = ctx;
    for (int64_t i = c->n * ith / nth; i < c->n * (ith + 1) / nth; i++) clip_row(c, c->w + i * c->k, c->room + 5 * c->k * ith);
}

static int clip_weights(struct awq *a, const char *name, struct clip *c, struct dan_err *e)
{
    struct dan_store *tmp = NULL;
    const struct dan_tensor from = *dan_store_find(a->lm->store, name);
    int rc = dan_store_new(&tmp, e);
    if (!rc) rc = dan_store_add(tmp, name, &dan_dtype_f32, from.shape, e);
    if (!rc) {
        c->w = dan_store_find(tmp, name)->data;
        c->n = dan_rows(&from);
        for (int64_t r = 0; r < c->n; r++) from.dtype->to_f32(dan_row(&from, r), c->w + r * c->k, c->k);
        dan_pool_run(a->o->pool, clip_rows, c);
        rc = dan_store_share(a->lm->store, name, tmp, name, e);
    }
    dan_store_free(tmp);
    return rc;
}

/* Scores are products of q and k: their errors do not stay where they are made, and clipping them hurts (Lin et al.). */
static bool makes_scores(const char *name) { return strstr(name, "attn_q.") || strstr(name, "attn_k.") || strstr(name, "attn_qkv."); }

static int clip_group(struct awq *a, const struct dan_fold *f, struct dan_err *e)
{
    int64_t g = a->o->trial.group;
    if (!a->o->clip || f->layer < 0 || g < 1 || g > WIDEST_GROUP || f->k % g) return DAN_OK;
    size_t threads = a->o->pool ? (size_t)dan_pool_size(a->o->pool) : 1;
    struct clip c = {.trial = &a->o->trial, .k = f->k, .group = g};
    c.gram = dan_malloc((size_t)(f->k * g) * sizeof *c.gram);
    c.room = dan_malloc(5 * (size_t)f->k * threads * sizeof *c.room);
    int rc = c.gram && c.room ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to clip '%s'", f->to[0]);
    if (!rc) make_gram(&c, &a->seen.v[f->input]);
    for (int i = 0; i < f->n_to && !rc; i++)
        if (!makes_scores(f->to[i])) rc = clip_weights(a, f->to[i], &c, e);
    dan_free(c.gram);
    dan_free(c.room);
    return rc;
}

/* Groups whose rows the format cannot take stay as they are. */
static int check(struct awq *a, struct dan_err *e)
{
    for (size_t i = 0; i < a->folds.n; i++) {
        struct dan_fold *f = &a->folds.v[i];
        if (a->o->trial.group > 1 && f->k % a->o->trial.group)
            snprintf(f->why_not, sizeof f->why_not, "its rows of %lld are no multiple of the group of %lld", (long long)f->k,
                     (long long)a->o->trial.group);
        for (int t = 0; t < f->n_to; t++) {
            const struct dan_dtype *type = dan_store_find(a->lm->store, f->to[t])->dtype;
            if (type->block > 1 || type == &dan_dtype_i8)
                return dan_fail(e, DAN_EINVAL, "'%s' is quantised already (%s); equalise the float model", f->to[t], type->name);
        }
    }
    return DAN_OK;
}

static int run(struct awq *a, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < a->folds.n && !rc; i++) {
        const struct dan_fold *f = &a->folds.v[i];
        struct dan_equalised g = {.fold = f, .least = 1, .most = 1};
        if (!f->why_not[0] && (f->layer >= 0 || a->o->head)) rc = scale_group(a, f, &g, e);
        if (!rc && a->o->report) a->o->report(a->o->ctx, &g);
    }
    for (size_t i = 0; i < a->folds.n && !rc; i++) rc = clip_group(a, &a->folds.v[i], e);
    return rc;
}

int dan_awq(struct dan_lm *lm, const struct dan_sequences *text, const struct dan_awq_opts *o, struct dan_err *e)
{
    struct awq a = {.lm = lm, .o = o};
    int rc = dan_folds_new(lm, &a.folds, e);
    if (rc) return rc;
    rc = check(&a, e);
    struct dan_collect_opts c = {.rows = o->rows > 0 ? o->rows : ROWS, .pool = o->pool, .progress = o->progress, .ctx = o->ctx};
    if (!rc) rc = dan_channels_collect(lm, text, &a.folds, &c, &a.seen, e);
    if (!rc) rc = run(&a, e);
    dan_channels_release(&a.seen);
    dan_folds_release(&a.folds);
    return rc;
}
