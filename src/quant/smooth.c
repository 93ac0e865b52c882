/* SmoothQuant. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "quant/equal_impl.h"

enum { ROWS = 256, STEPS = 10 };

struct smooth {
    struct dan_lm *lm;
    const struct dan_smooth_opts *o;
    const struct dan_fold *fold;
    const struct dan_channels *ch;
    float *x, *w, *s, *best, *row;             /* [k] each: largest inputs and weights, tied; scales; room */
};

static void scales(const struct smooth *m, double alpha, float *s)
{
    for (int64_t j = 0; j < m->fold->k; j++) {
        bool dead = !(m->x[j] > 0) || !(m->w[j] > 0);
        double v = dead ? 1 : pow((double)m->x[j], alpha) / pow(fmax((double)m->w[j], 1e-5), 1 - alpha);
        s[j] = (float)fmax(1e-5, fmin(1e5, v));
    }
}

static int search(struct smooth *m, struct dan_equalised *g, struct dan_err *e)
{
    struct dan_search s = {.lm = m->lm, .fold = m->fold, .ch = m->ch, .pool = m->o->pool, .trial = dan_trial_of(&dan_dtype_i8),
                           .act = m->o->dynamic ? DAN_ACT_PER_ROW : DAN_ACT_PER_TENSOR};
    int64_t k = m->fold->k;
    int rc = dan_search_open(&s, e);
    for (int64_t j = 0; j < k; j++) m->best[j] = 1;
    if (!rc) rc = dan_search_error(&s, m->best, &g->before, e);
    g->after = INFINITY;
    for (int i = 0; i <= STEPS && !rc; i++) {
        double err;
        scales(m, (double)i / STEPS, m->s);
        rc = dan_search_error(&s, m->s, &err, e);
        if (rc || err >= g->after) continue;
        g->after = err;
        g->value = (double)i / STEPS;
        memcpy(m->best, m->s, (size_t)k * sizeof *m->s);
    }
    if (g->after >= g->before) {                       /* none helps */
        g->after = g->before;
        for (int64_t j = 0; j < k; j++) m->best[j] = 1;
    }
    dan_search_close(&s);
    return rc;
}

static int one_group(struct smooth *m, struct dan_equalised *g, struct dan_err *e)
{
    int64_t k = m->fold->k;
    memcpy(m->x, m->ch->most, (size_t)k * sizeof *m->x);
    dan_fold_weight_max(m->lm, m->fold, m->w, m->row);
    dan_fold_tie(m->fold, m->x);
    dan_fold_tie(m->fold, m->w);
    g->value = m->o->alpha;
    int rc = DAN_OK;
    if (m->o->alpha < 0) rc = search(m, g, e);
    else scales(m, m->o->alpha, m->best);
    g->least = g->most = m->best[0];
    for (int64_t j = 0; j < k; j++) {
        g->least = fminf(g->least, m->best[j]);
        g->most = fmaxf(g->most, m->best[j]);
    }
    return rc ? rc : dan_fold_apply(m->lm, m->fold, m->best, e);
}

static int with_room(struct smooth *m, struct dan_equalised *g, struct dan_err *e)
{
    size_t k = (size_t)m->fold->k;
    float *room = dan_calloc(5 * k, sizeof *room);
    if (!room) return dan_fail(e, DAN_ENOMEM, "not enough memory for scales of '%s'", m->fold->to[0]);
    m->x = room, m->w = room + k, m->s = room + 2 * k, m->best = room + 3 * k, m->row = room + 4 * k;
    int rc = one_group(m, g, e);
    dan_free(room);
    return rc;
}

int dan_smoothquant(struct dan_lm *lm, const struct dan_sequences *text, const struct dan_smooth_opts *o, struct dan_err *e)
{
    static const struct dan_smooth_opts usual = {.alpha = 0.5};
    struct dan_folds folds;
    struct dan_channel_list seen = {0};
    if (!o) o = &usual;
    if (o->alpha > 1 || isnan(o->alpha)) return dan_fail(e, DAN_EINVAL, "alpha %g is not in 0..1 (below 0: searched)", o->alpha);
    int rc = dan_folds_new(lm, &folds, e);
    if (rc) return rc;
    struct dan_collect_opts c = {.rows = o->alpha < 0 ? (o->rows > 0 ? o->rows : ROWS) : 0, .pool = o->pool, .progress = o->progress, .ctx = o->ctx};
    rc = dan_channels_collect(lm, text, &folds, &c, &seen, e);
    for (size_t i = 0; i < folds.n && !rc; i++) {
        struct dan_equalised g = {.fold = &folds.v[i], .least = 1, .most = 1};
        struct smooth m = {.lm = lm, .o = o, .fold = &folds.v[i], .ch = &seen.v[folds.v[i].input]};
        if (!m.fold->why_not[0] && (!o->norms_only || m.fold->kind == DAN_FOLD_NORM)) rc = with_room(&m, &g, e);
        if (!rc && o->report) o->report(o->ctx, &g);
    }
    dan_channels_release(&seen);
    dan_folds_release(&folds);
    return rc;
}
