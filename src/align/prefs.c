/* Steps on preference pairs. */
#include <math.h>
#include <string.h>
#include "align/pairs.h"
#include "align/scalar.h"
#include "align/shuffle.h"
#include "base/mem.h"

struct scoring { struct dan_tuner *t; bool exact; struct dan_packed *pack; const struct dan_sft_row *const *row; size_t first; double *sum; float *nll; };

static int score(struct scoring *s, size_t end, struct dan_err *e)
{
    int64_t r = 0;
    int rc = s->pack->batch.rows ? dan_tuner_score(s->t, s->pack, s->exact, s->nll, e) : DAN_OK;
    for (size_t k = s->first; k < end && !rc; k++) {
        s->sum[k] = 0;
        for (int64_t i = 1; i < s->row[k]->n; i++, r++)
            if (s->row[k]->learn[i]) s->sum[k] -= (double)s->nll[r];
    }
    s->first = end;
    dan_packed_clear(s->pack);
    return rc;
}

static int logp_of(struct scoring s, size_t n, struct dan_err *e)
{
    s.nll = dan_malloc((size_t)s.pack->max_rows * sizeof *s.nll);
    int rc = s.nll ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    dan_packed_clear(s.pack);
    for (size_t k = 0; k < n && !rc; k++) {
        const struct dan_sft_row *r = s.row[k];
        if (!dan_packed_fits(s.pack, r->n)) rc = score(&s, k, e);
        if (!rc) dan_packed_add_learnt(s.pack, r->ids, r->n, r->learn, NULL);
    }
    if (!rc) rc = score(&s, n, e);
    dan_free(s.nll);
    return rc;
}

int dan_rows_logp(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, struct dan_packed *pack, double *sum, struct dan_err *e)
{
    return logp_of((struct scoring){.t = t, .pack = pack, .row = row, .sum = sum}, n, e);
}

int dan_rows_logp_exact(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, struct dan_packed *pack, double *sum, struct dan_err *e)
{
    return logp_of((struct scoring){.t = t, .exact = !dan_tuner_draws(t), .pack = pack, .row = row, .sum = sum}, n, e);
}

static int score_all(struct dan_prefs *p, const struct dan_sft_data *d, dan_logp_rows *by, double *sum, struct dan_err *e)
{
    const struct dan_sft_row **all = dan_malloc((d->n + 1) * sizeof *all);
    int rc = all ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t i = 0; i < d->n && !rc; i++) all[i] = &d->v[i];
    if (!rc) rc = by(p->tuner, all, d->n, &p->pack, sum, e);
    dan_free(all);
    return rc;
}

int dan_prefs_init(struct dan_prefs *p, struct dan_tuner *t, const struct dan_sft_data *pairs, const struct dan_pref_loss *loss, const struct dan_pref_opts *o,
                   int64_t batch, int64_t pack_rows, uint64_t seed, struct dan_err *e)
{
    *p = (struct dan_prefs){.tuner = t, .data = pairs, .loss = loss, .opts = *o, .batch = batch, .seed = seed, .epoch = -1};
    int rc = dan_packed_init(&p->pack, pack_rows, e);
    p->ref = dan_calloc(pairs->n + 1, sizeof *p->ref);
    p->row = dan_malloc((size_t)(2 * batch) * sizeof *p->row);
    p->weight = dan_malloc(((size_t)pack_rows + 1) * sizeof *p->weight);
    p->order = dan_malloc((pairs->n / 2 + 1) * sizeof *p->order);
    if (!rc && (!p->ref || !p->row || !p->weight || !p->order)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for preference steps");
    if (!rc && loss->needs_ref) rc = score_all(p, pairs, dan_rows_logp_exact, p->ref, e);
    if (rc) dan_prefs_release(p);
    return rc;
}

void dan_prefs_release(struct dan_prefs *p)
{
    dan_packed_release(&p->pack);
    dan_free(p->ref);
    dan_free(p->row);
    dan_free(p->weight);
    dan_free(p->order);
    *p = (struct dan_prefs){0};
}

static void count(struct dan_pref_stats *s, const struct dan_pref_pair *q, double beta, double value)
{
    double reward[2];
    for (int k = 0; k < 2; k++) {
        reward[k] = beta * (q->policy[k] - q->ref[k]);
        s->reward[k] += reward[k];
        s->logp[k] += q->policy[k];
    }
    s->loss += value;
    s->margin += reward[DAN_CHOSEN] - reward[DAN_REJECTED];
    s->accuracy += reward[DAN_CHOSEN] > reward[DAN_REJECTED] ? 1 : reward[DAN_CHOSEN] < reward[DAN_REJECTED] ? 0 : 0.5;
    s->pairs++;
}

static void average(struct dan_pref_stats *s)
{
    double n = (double)(s->pairs ? s->pairs : 1);
    s->loss /= n;
    s->margin /= n;
    s->accuracy /= n;
    for (int k = 0; k < 2; k++) {
        s->reward[k] /= n;
        s->logp[k] /= n;
    }
}

static struct dan_pref_pair pair_of(const struct dan_sft_row *const *row, const double *sum, const double *ref)
{
    struct dan_pref_pair q = {.policy = {sum[0], sum[1]}, .n = {(double)row[0]->learnt, (double)row[1]->learnt}};
    if (ref) q.ref[0] = ref[0], q.ref[1] = ref[1];
    return q;
}

/* beta of a loss without one (orpo) shows rewards as they are. */
static double reward_scale(const struct dan_prefs *p) { return p->opts.beta > 0 ? p->opts.beta : 1; }

/* Adds the gradient of sum over rows of seed[i] / by * (each learnt token's log-probability), in as few runs as it takes. */
static int rows_gradient(struct dan_tuner *t, const struct dan_sft_row *const *row, const double *seed, size_t n, double by, struct dan_packed *pack, float *weight,
                         struct dan_err *e)
{
    int rc = DAN_OK;
    dan_packed_clear(pack);
    for (size_t k = 0; k < n && !rc; k++) {
        const struct dan_sft_row *r = row[k];
        if (!dan_packed_fits(pack, r->n)) {
            rc = dan_tuner_add(t, pack, NULL, e);
            dan_packed_clear(pack);
        }
        for (int64_t i = 0; i < r->n; i++) weight[i] = r->learn[i] ? (float)(-seed[k] / by) : 0;
        if (!rc) dan_packed_add_learnt(pack, r->ids, r->n, r->learn, weight);
    }
    return rc || !pack->batch.rows ? rc : dan_tuner_add(t, pack, NULL, e);
}

/* What dan_rows_learn has in a pack: rows first .. end - 1. */
struct learning {
    const struct dan_sft_row *const *row;
    size_t first, end, group;
    double by;
    dan_group_seeds *seeds;
    void *ctx;
};

enum { MOST_IN_GROUP = 2 };

static int seed_pack(void *ctx, const float *nll, struct dan_packed *pack, struct dan_err *e)
{
    const struct learning *l = ctx;
    int64_t r = 0;
    (void)e;
    for (size_t k = l->first; k < l->end; k += l->group) {
        double logp[MOST_IN_GROUP] = {0}, seed[MOST_IN_GROUP];
        int64_t at = r;
        for (size_t g = 0; g < l->group; g++)
            for (int64_t i = 1; i < l->row[k + g]->n; i++, at++)
                if (l->row[k + g]->learn[i]) logp[g] -= (double)nll[at];
        l->seeds(l->ctx, k, logp, seed);
        for (size_t g = 0; g < l->group; g++)
            for (int64_t i = 1; i < l->row[k + g]->n; i++, r++) pack->batch.weights[r] = l->row[k + g]->learn[i] ? (float)(-seed[g] / l->by) : 0;
    }
    return DAN_OK;
}

static int learn_pack(struct learning *l, struct dan_tuner *t, size_t end, struct dan_packed *pack, struct dan_err *e)
{
    l->end = end;
    int rc = pack->batch.rows ? dan_tuner_run(t, pack, seed_pack, l, e) : DAN_OK;
    dan_packed_clear(pack);
    l->first = end;
    return rc;
}

static int learn_large(struct learning *l, struct dan_tuner *t, size_t k, struct dan_packed *pack, float *weight, struct dan_err *e)
{
    double logp[MOST_IN_GROUP], seed[MOST_IN_GROUP];
    int rc = dan_rows_logp_exact(t, l->row + k, l->group, pack, logp, e);
    if (!rc) l->seeds(l->ctx, k, logp, seed);
    if (!rc) rc = rows_gradient(t, l->row + k, seed, l->group, l->by, pack, weight, e);
    dan_packed_clear(pack);
    l->first = k + l->group;
    return rc;
}

int dan_rows_learn(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, size_t group, double by, struct dan_packed *pack, float *weight,
                   dan_group_seeds *seeds, void *ctx, struct dan_err *e)
{
    struct learning l = {.row = row, .group = group, .by = by, .seeds = seeds, .ctx = ctx};
    int rc = DAN_OK;
    DAN_ASSERT(group <= MOST_IN_GROUP && n % group == 0);
    dan_packed_clear(pack);
    for (size_t k = 0; k < n && !rc; k += group) {
        int64_t rows = 0;
        for (size_t g = 0; g < group; g++) rows += row[k + g]->n - 1;
        if (pack->batch.rows + rows > pack->max_rows) rc = learn_pack(&l, t, k, pack, e);
        if (!rc && rows > pack->max_rows) rc = learn_large(&l, t, k, pack, weight, e);
        else for (size_t g = 0; g < group && !rc; g++) dan_packed_add_learnt(pack, row[k + g]->ids, row[k + g]->n, row[k + g]->learn, NULL);
    }
    return rc ? rc : learn_pack(&l, t, n, pack, e);
}

struct pair_step { struct dan_prefs *p; struct dan_pref_stats *s; };

static void pair_seeds(void *ctx, size_t first, const double *logp, double *seed)
{
    const struct pair_step *x = ctx;
    const struct dan_prefs *p = x->p;
    struct dan_pref_pair q = pair_of(p->row + first, logp, p->loss->needs_ref ? p->ref + (p->row[first] - p->data->v) : NULL);
    count(x->s, &q, reward_scale(p), dan_pref_value(p->loss, &q, &p->opts, seed));
}

int dan_prefs_step(struct dan_prefs *p, double lr, struct dan_pref_stats *out, double *norm, struct dan_err *e)
{
    int64_t n = (int64_t)p->data->n / 2, first = dan_tuner_steps(p->tuner) * p->batch;
    struct dan_pref_stats s = {0};
    struct pair_step x = {p, &s};
    for (int64_t k = 0; k < p->batch; k++) {
        int64_t at = dan_shuffled(p->order, n, &p->epoch, p->seed, 2, first + k);
        for (int h = 0; h < 2; h++) {
            p->row[2 * k + h] = &p->data->v[2 * at + h];
            s.ids += p->row[2 * k + h]->n;
        }
    }
    int rc = dan_rows_learn(p->tuner, p->row, (size_t)(2 * p->batch), 2, (double)p->batch, &p->pack, p->weight, pair_seeds, &x, e);
    if (!rc) rc = dan_tuner_step(p->tuner, lr, norm, e);
    average(&s);
    *out = s;
    return rc;
}

int dan_prefs_eval(struct dan_prefs *p, const struct dan_sft_data *d, const double *ref, struct dan_pref_stats *out, struct dan_err *e)
{
    double *sum = dan_malloc((d->n + 1) * sizeof *sum), seed[2];
    struct dan_pref_stats s = {0};
    int rc = sum ? score_all(p, d, dan_rows_logp, sum, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to score answers");
    for (size_t i = 0; i + 1 < d->n && !rc; i += 2) {
        const struct dan_sft_row *row[2] = {&d->v[i], &d->v[i + 1]};
        struct dan_pref_pair q = pair_of(row, sum + i, p->loss->needs_ref ? ref + i : NULL);
        count(&s, &q, reward_scale(p), dan_pref_value(p->loss, &q, &p->opts, seed));
    }
    average(&s);
    dan_free(sum);
    *out = s;
    return rc;
}
