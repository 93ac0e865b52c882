/* Calibrators: from a histogram of activations to a range. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "quant/histogram.h"

enum { KL_START = 128, CANDIDATES = 4096, GRID = 64, FINE = 8 };

static struct dan_range all(const struct dan_histogram *h) { return (struct dan_range){h->lo, h->hi}; }

/* -t..t, but no wider than what was seen where sides have ranges of their own. */
static struct dan_range within(const struct dan_histogram *h, const struct dan_range_opts *o, double t)
{
    return o->asymmetric ? (struct dan_range){fmax(h->lo, -t), fmin(h->hi, t)} : (struct dan_range){-t, t};
}

static int minmax(const struct dan_histogram *h, const struct dan_range_opts *o, struct dan_range *out, struct dan_err *e)
{
    (void)o, (void)e;
    *out = all(h);
    return DAN_OK;
}

static int average(const struct dan_histogram *h, const struct dan_range_opts *o, struct dan_range *out, struct dan_err *e)
{
    (void)o, (void)e;
    *out = (struct dan_range){h->mean_lo, h->mean_hi};
    return DAN_OK;
}

/* The upper edge of the bin in which the counts of |x| reach `part` of all. */
static double quantile(const struct dan_histogram *h, double part)
{
    double need = part * (double)h->count * (1 - 1e-12), sum = 0;
    for (int64_t b = 0; b < h->n_bins; b++) {
        sum += (double)(h->pos[b] + h->neg[b]);
        if (sum >= need) return h->width * (double)(b + 1);
    }
    return h->width * (double)h->n_bins;
}

/* The same of x, from the end of `far` to that of `near`, which is the other side of 0. */
static double tail(const struct dan_histogram *h, const uint64_t *far, const uint64_t *near, double part)
{
    double most = part * (double)h->count * (1 + 1e-12), sum = 0;
    for (int64_t b = h->n_bins - 1; b >= 0; b--)
        if ((sum += (double)far[b]) > most) return h->width * (double)(b + 1);
    for (int64_t b = 0; b < h->n_bins; b++)
        if ((sum += (double)near[b]) > most) return -h->width * (double)b;
    return 0;
}

static int percentile(const struct dan_histogram *h, const struct dan_range_opts *o, struct dan_range *out, struct dan_err *e)
{
    double p = (o->percentile > 0 ? o->percentile : 99.99) / 100;
    if (!(p > 0.5 && p <= 1)) return dan_fail(e, DAN_EINVAL, "a percentile of %g makes no range; use one above 50, up to 100", 100 * p);
    if (o->asymmetric) {
        double hi = tail(h, h->pos, h->neg, (1 - p) / 2), lo = -tail(h, h->neg, h->pos, (1 - p) / 2);
        *out = (struct dan_range){fmax(lo, h->lo), fmin(hi, h->hi)};
    } else {
        double t = fmin(quantile(h, p), fmax(-h->lo, h->hi));
        *out = (struct dan_range){-t, t};
    }
    return DAN_OK;
}

/* --- Kullback-Leibler divergence */

/* Bins below i into levels of equal width; a level's mass is spread evenly over its bins that have any. */
static void to_levels(const uint64_t *bins, int64_t i, int levels, struct dan_kl_level *l)
{
    memset(l, 0, sizeof *l * (size_t)levels);
    for (int64_t k = 0; k < i; k++) {
        uint64_t count = k ? bins[k] : bins[1];
        struct dan_kl_level *to = &l[k * levels / i];
        to->sum += (double)count;
        to->n += count > 0;
    }
}

/* KL(P || Q): P the bins below i with `beyond` added to the last, Q the levels, which know nothing of `beyond`: else clipping would look free.  Both
 * sum to 1 first: total and inside are their masses. */
static double divergence(const uint64_t *bins, int64_t i, int levels, const struct dan_kl_level *l, double inside, double total)
{
    double sum = 0;
    for (int64_t k = 0; k < i; k++) {
        uint64_t count = k ? bins[k] : bins[1];
        double p = ((double)count + (k == i - 1 ? total - inside : 0)) / total;
        const struct dan_kl_level *from = &l[k * levels / i];
        if (p <= 0) continue;
        if (!count) return INFINITY;
        sum += p * log(p / (from->sum / (double)from->n / inside));
    }
    return sum;
}

int64_t dan_kl_bins(const uint64_t *bins, int64_t n, int64_t start, int64_t stride, int levels, struct dan_kl_level *tmp)
{
    double total = 0, inside = 0, least = INFINITY;
    int64_t best = n, counted = 0;
    for (int64_t k = 0; k < n; k++) total += (double)(k ? bins[k] : bins[1]);
    for (int64_t i = start; i <= n; i += stride) {
        for (; counted < i; counted++) inside += (double)(counted ? bins[counted] : bins[1]);
        to_levels(bins, i, levels, tmp);
        double d = total > 0 ? divergence(bins, i, levels, tmp, inside, total) : 0;
        if (d > least) continue;
        least = d;
        best = i;
    }
    return best;
}

/* A table of candidates of at most CANDIDATES: one bin each for as long as the histogram did not double. */
static int64_t stride(const struct dan_histogram *h) { return 1 + (h->n_bins - 1) / CANDIDATES; }

static int kl(const struct dan_histogram *h, const struct dan_range_opts *o, struct dan_range *out, struct dan_err *e)
{
    bool one_side = o->asymmetric && (h->lo >= 0 || h->hi <= 0);
    int levels = 1 << ((o->bits ? o->bits : 8) - !one_side);
    struct dan_kl_level *tmp = dan_malloc(sizeof *tmp * (size_t)levels);
    uint64_t *bins = dan_malloc(sizeof *bins * (size_t)h->n_bins);
    int rc = tmp && bins ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a search of %lld bins", (long long)h->n_bins);
    if (!rc) {
        for (int64_t b = 0; b < h->n_bins; b++) bins[b] = h->pos[b] + h->neg[b];
        int64_t i = dan_kl_bins(bins, h->n_bins, KL_START, stride(h), levels, tmp);
        *out = within(h, o, i == h->n_bins ? fmax(-h->lo, h->hi) : h->width * (double)i);
    }
    dan_free(tmp);
    dan_free(bins);
    return rc;
}

/* --- smallest squared error */

struct points { double *x, *n; int64_t count; };       /* centres of bins that are not empty, and their counts */

static int points_of(const struct dan_histogram *h, struct points *p, struct dan_err *e)
{
    size_t most = 2 * (size_t)h->n_bins;
    *p = (struct points){dan_malloc(most * sizeof *p->x), dan_malloc(most * sizeof *p->n), 0};
    if (!p->x || !p->n) return dan_fail(e, DAN_ENOMEM, "not enough memory for a search of %lld bins", (long long)h->n_bins);
    for (int side = 0; side < 2; side++)
        for (int64_t b = 0; b < h->n_bins; b++) {
            uint64_t n = (side ? h->neg : h->pos)[b];
            if (!n) continue;
            p->x[p->count] = (side ? -1 : 1) * h->width * ((double)b + 0.5);
            p->n[p->count++] = (double)n;
        }
    return DAN_OK;
}

static double squared_error(const struct points *p, const struct dan_range *r, const struct dan_range_opts *o)
{
    float s, z;
    double sum = 0, top = ldexp(1, (o->bits ? o->bits : 8) - 1);
    dan_range_scale(r, o, &s, &z);
    for (int64_t i = 0; i < p->count; i++) {
        double q = rint(p->x[i] / (double)s) + (double)z;
        double d = p->x[i] - (double)s * (fmax(-top, fmin(top - 1, q)) - (double)z);
        sum += p->n[i] * d * d;
    }
    return sum;
}

struct search { const struct points *p; const struct dan_range_opts *o; struct dan_range best; double least; };

static void attempt(struct search *s, double lo, double hi)
{
    struct dan_range r = {lo, hi};
    double err = squared_error(s->p, &r, s->o);
    if (err > s->least) return;
    s->least = err;
    s->best = r;
}

static void search_symmetric(struct search *s, const struct dan_histogram *h)
{
    double top = fmax(-h->lo, h->hi);
    for (int64_t i = 1; i <= h->n_bins; i += stride(h)) attempt(s, -fmin(top, h->width * (double)i), fmin(top, h->width * (double)i));
    attempt(s, -top, top);
}

/* Both ends: every pair of 1/64 parts, then of finer ones around the best. */
static void search_both(struct search *s, const struct dan_histogram *h)
{
    double lo = fmin(h->lo, 0), hi = fmax(h->hi, 0);
    for (int i = 0; i <= GRID; i++)
        for (int j = 0; j <= GRID; j++) attempt(s, lo * i / GRID, hi * j / GRID);
    struct dan_range c = s->best;
    for (int i = -FINE; i <= FINE; i++)
        for (int j = -FINE; j <= FINE; j++)
            attempt(s, fmin(0, fmax(lo, c.lo + lo * i / (GRID * FINE))), fmax(0, fmin(hi, c.hi + hi * j / (GRID * FINE))));
}

static int mse(const struct dan_histogram *h, const struct dan_range_opts *o, struct dan_range *out, struct dan_err *e)
{
    struct points p = {0};
    struct search s = {.p = &p, .o = o, .best = all(h), .least = INFINITY};
    int rc = points_of(h, &p, e);
    if (!rc && h->width > 0) (o->asymmetric ? search_both : search_symmetric)(&s, h);
    if (!rc) *out = s.best;
    dan_free(p.x);
    dan_free(p.n);
    return rc;
}

const struct dan_calibrator dan_calibrator_minmax = {"minmax", "from the smallest to the largest value seen", minmax};
const struct dan_calibrator dan_calibrator_average = {"average", "moving average of the extremes of each batch", average};
const struct dan_calibrator dan_calibrator_percentile = {"percentile", "clips the largest (100 - P) % of the values", percentile};
const struct dan_calibrator dan_calibrator_kl = {"kl", "smallest Kullback-Leibler divergence of the histogram (TensorRT's entropy)", kl};
const struct dan_calibrator dan_calibrator_mse = {"mse", "smallest squared error of the values", mse};

const struct dan_calibrator *const dan_calibrators[] = {&dan_calibrator_minmax, &dan_calibrator_average, &dan_calibrator_percentile, &dan_calibrator_kl,
                                                        &dan_calibrator_mse, NULL};
