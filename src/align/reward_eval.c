#include "align/reward_eval.h"
#include <math.h>
#include <stdlib.h>
#include "align/scalar.h"
#include "base/mem.h"
#include "base/rng.h"

enum { RESAMPLES = 1000, BOOTSTRAP_STREAM = 0xb007 };
static const double Z = 1.959963984540054;     /* 97.5 % of a normal */

void dan_wilson(double x, double n, double *low, double *high)
{
    double p = x / n, z2 = Z * Z, centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    double half = Z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    *low = fmax(0, centre - half);
    *high = fmin(1, centre + half);
}

struct pair { double delta, sure, level; int64_t better, worse; };      /* delta: reward of the better minus that of the worse; sure |delta| */
struct judging { const struct dan_ranked *d; const double *reward; struct pair *pair; int64_t n; struct dan_rm_report *out; };

static double right(double delta) { return delta > 0 ? 1 : delta < 0 ? 0 : 0.5; }

static double level_of(const struct judging *j, const struct dan_rank_group *g, int64_t better, int64_t worse)
{
    return j->out->by == DAN_BY_MARGIN ? g->margin : fabs((double)j->d->rank[better] - j->d->rank[worse]);
}

static void list_pairs(struct judging *j)
{
    for (size_t k = 0; k < j->d->n; k++) {
        const struct dan_rank_group *g = &j->d->v[k];
        for (int64_t a = g->first; a < g->first + g->n; a++)
            for (int64_t b = g->first; b < g->first + g->n; b++) {
                if (j->d->rank[a] >= j->d->rank[b]) continue;
                double delta = j->reward[a] - j->reward[b];
                j->pair[j->n++] = (struct pair){delta, fabs(delta), level_of(j, g, a, b), a, b};
            }
    }
}

static void over_pairs(struct judging *j)
{
    struct dan_rm_report *r = j->out;
    double n = (double)j->n, uneven = 0;
    for (int64_t k = 0; k < j->n; k++) {
        const struct pair *p = &j->pair[k];
        int64_t longer = j->d->rows.v[p->better].learnt - j->d->rows.v[p->worse].learnt;
        r->loss -= dan_log_sigmoid(p->delta) / n;
        r->accuracy += right(p->delta) / n;
        r->margin += p->delta / n;
        r->preferred += j->reward[p->better] / n;
        r->other += j->reward[p->worse] / n;
        if (!longer) continue;
        uneven++;
        r->longer_data += longer > 0;
        r->longer_model += longer > 0 ? right(p->delta) : 1 - right(p->delta);
    }
    if (uneven > 0) r->longer_data /= uneven, r->longer_model /= uneven;
}

static void over_answers(struct judging *j)
{
    struct dan_rm_report *r = j->out;
    double n = (double)j->d->rows.n, rr = 0, tt = 0, rt = 0;
    r->min = INFINITY, r->max = -INFINITY;
    for (size_t i = 0; i < j->d->rows.n; i++) {
        r->mean += j->reward[i] / n;
        r->tokens += (double)j->d->rows.v[i].learnt / n;
        r->min = fmin(r->min, j->reward[i]);
        r->max = fmax(r->max, j->reward[i]);
    }
    for (size_t i = 0; i < j->d->rows.n; i++) {
        double x = j->reward[i] - r->mean, t = (double)j->d->rows.v[i].learnt - r->tokens;
        rr += x * x, tt += t * t, rt += x * t;
    }
    r->spread = n > 1 ? sqrt(rr / (n - 1)) : 0;
    r->length = rr > 0 && tt > 0 ? rt / sqrt(rr * tt) : 0;
}

static void calibrate(struct judging *j)
{
    struct dan_rm_bin *bin = j->out->calibration;
    for (int64_t k = 0; k < j->n; k++) {
        double p = dan_sigmoid(j->pair[k].sure);
        int b = (int)((p - 0.5) * 2 * DAN_RM_BINS);
        struct dan_rm_bin *at = &bin[b < DAN_RM_BINS ? b : DAN_RM_BINS - 1];
        at->predicted += p;
        at->observed += right(j->pair[k].delta);
        at->pairs++;
    }
    for (int b = 0; b < DAN_RM_BINS; b++) {
        if (!bin[b].pairs) continue;
        bin[b].predicted /= (double)bin[b].pairs;
        bin[b].observed /= (double)bin[b].pairs;
        j->out->ece += fabs(bin[b].predicted - bin[b].observed) * (double)bin[b].pairs / (double)j->n;
    }
}

/* ---- levels ---- */

static int by_level(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return (x->level > y->level) - (x->level < y->level);
}

static int by_sure(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return (x->sure > y->sure) - (x->sure < y->sure);
}

static void fill_level(const struct judging *j, int64_t lo, int64_t hi, bool sure, struct dan_rm_level *out)
{
    const struct pair *p = j->pair;
    double hits = 0, n = (double)(hi - lo);
    for (int64_t k = lo; k < hi; k++) hits += right(p[k].delta);
    *out = (struct dan_rm_level){.from = sure ? p[lo].sure : p[lo].level, .to = sure ? p[hi - 1].sure : p[hi - 1].level, .accuracy = hits / n, .pairs = hi - lo};
    dan_wilson(hits, n, &out->low, &out->high);
}

/* The sorted pairs in `parts` runs of about equal size. */
static int quarters(const struct judging *j, bool sure, int parts, struct dan_rm_level *out)
{
    int n = 0;
    for (int k = 0; k < parts; k++) {
        int64_t lo = j->n * k / parts, hi = j->n * (k + 1) / parts;
        if (hi > lo) fill_level(j, lo, hi, sure, &out[n++]);
    }
    return n;
}

/* One level for each value, or quarters where there are too many. */
static int levels(const struct judging *j, struct dan_rm_level *out)
{
    int n = 0;
    int64_t lo = 0;
    for (int64_t k = 1; k <= j->n; k++) {
        if (k < j->n && j->pair[k].level == j->pair[lo].level) continue;
        if (n == DAN_RM_LEVELS) return quarters(j, false, 4, out);
        fill_level(j, lo, k, false, &out[n++]);
        lo = k;
    }
    return n;
}

/* ---- the interval ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Pairs of one prompt share answers: whole prompts are drawn again, and the middle 95 % of the accuracies kept.  Pairs lie group by group. */
static int bootstrap(const struct judging *j, uint64_t seed, struct dan_err *e)
{
    size_t n = j->d->n;
    double *hits = dan_calloc(n + 1, sizeof *hits), *got = dan_malloc(RESAMPLES * sizeof *got);
    struct dan_rng rng = {.seed = seed, .stream = BOOTSTRAP_STREAM};
    int rc = hits && got ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to judge rewards");
    for (size_t k = 0, at = 0; k < n && !rc; k++)
        for (int32_t i = 0; i < j->d->v[k].pairs; i++) hits[k] += right(j->pair[at++].delta);
    for (int b = 0; b < RESAMPLES && !rc; b++) {
        double sum = 0, pairs = 0;
        for (size_t k = 0; k < n; k++) {
            size_t at = (size_t)dan_rng_below(&rng, n);
            sum += hits[at];
            pairs += j->d->v[at].pairs;
        }
        got[b] = sum / pairs;
    }
    if (!rc) {
        qsort(got, RESAMPLES, sizeof *got, by_value);
        j->out->low = got[RESAMPLES / 40];
        j->out->high = got[RESAMPLES - 1 - RESAMPLES / 40];
    }
    dan_free(hits);
    dan_free(got);
    return rc;
}

static int interval(const struct judging *j, uint64_t seed, struct dan_err *e)
{
    j->out->clustered = j->d->pairs > (int64_t)j->d->n;
    if (j->out->clustered) return bootstrap(j, seed, e);
    dan_wilson(j->out->accuracy * (double)j->n, (double)j->n, &j->out->low, &j->out->high);
    return DAN_OK;
}

int dan_rm_judge(const struct dan_ranked *d, const double *reward, uint64_t seed, struct dan_rm_report *out, struct dan_err *e)
{
    *out = (struct dan_rm_report){.groups = (int64_t)d->n, .pairs = d->pairs, .answers = (int64_t)d->rows.n,
                                  .by = d->margins ? DAN_BY_MARGIN : d->pairs > (int64_t)d->n ? DAN_BY_RANK : DAN_BY_NOTHING};
    struct judging j = {.d = d, .reward = reward, .pair = dan_malloc(((size_t)d->pairs + 1) * sizeof *j.pair), .out = out};
    if (!j.pair) return dan_fail(e, DAN_ENOMEM, "not enough memory to judge rewards");
    list_pairs(&j);
    over_pairs(&j);
    over_answers(&j);
    calibrate(&j);
    int rc = interval(&j, seed, e);            /* before pairs are sorted */
    if (!rc && out->by != DAN_BY_NOTHING) {
        qsort(j.pair, (size_t)j.n, sizeof *j.pair, by_level);
        out->n_levels = levels(&j, out->level);
    }
    qsort(j.pair, (size_t)j.n, sizeof *j.pair, by_sure);
    out->n_sure = quarters(&j, true, 4, out->sure);
    dan_free(j.pair);
    return rc;
}
