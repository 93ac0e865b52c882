#include "quant/histogram.h"
#include <float.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

enum { FIRST_BINS = 2048, MOST_BINS = 16384 };

int dan_histogram_init(struct dan_histogram *h, double momentum, struct dan_err *e)
{
    *h = (struct dan_histogram){.momentum = momentum > 0 ? momentum : 0.01, .n_bins = FIRST_BINS};
    h->pos = dan_calloc(2 * MOST_BINS, sizeof *h->pos);
    if (!h->pos) return dan_fail(e, DAN_ENOMEM, "not enough memory for a histogram of activations");
    h->neg = h->pos + MOST_BINS;
    return DAN_OK;
}

void dan_histogram_release(struct dan_histogram *h)
{
    dan_free(h->pos);
    *h = (struct dan_histogram){0};
}

static int extremes(const float *x, int64_t n, const char *what, double *lo, double *hi, struct dan_err *e)
{
    *lo = *hi = (double)x[0];
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return dan_fail(e, DAN_EINVAL, "value %lld of %lld that '%s' reads is %g; the model or its weights are broken, look with --trace",
                            (long long)i, (long long)n, what, (double)x[i]);
        *lo = fmin(*lo, (double)x[i]);
        *hi = fmax(*hi, (double)x[i]);
    }
    return DAN_OK;
}

static void join_bins(uint64_t *bin, int64_t n)
{
    for (int64_t i = 0; i < (n + 1) / 2; i++) bin[i] = bin[2 * i] + (2 * i + 1 < n ? bin[2 * i + 1] : 0);
    memset(bin + (n + 1) / 2, 0, sizeof *bin * (size_t)(n / 2));
}

/* Bins up to |x| = top, which is above 0. */
static void reach(struct dan_histogram *h, double top)
{
    if (h->width <= 0) h->width = top / FIRST_BINS;
    while (ceil(top / h->width) > MOST_BINS) {
        join_bins(h->pos, h->n_bins);
        join_bins(h->neg, h->n_bins);
        h->n_bins = (h->n_bins + 1) / 2;
        h->width *= 2;
    }
    int64_t need = (int64_t)ceil(top / h->width);
    if (need > h->n_bins) h->n_bins = need;
}

static void count(struct dan_histogram *h, const float *x, int64_t n)
{
    double by = h->width > 0 ? 1 / h->width : 0;
    int64_t last = h->n_bins - 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t b = (int64_t)(fabs((double)x[i]) * by);
        (x[i] < 0 ? h->neg : h->pos)[b < last ? b : last]++;
    }
}

int dan_histogram_add(struct dan_histogram *h, const float *x, int64_t n, const char *what, struct dan_err *e)
{
    double lo, hi, c = h->batches ? h->momentum : 1;
    if (n < 1) return DAN_OK;
    int rc = extremes(x, n, what, &lo, &hi, e);
    if (rc) return rc;
    h->lo = h->batches ? fmin(h->lo, lo) : lo;
    h->hi = h->batches ? fmax(h->hi, hi) : hi;
    h->mean_lo = (1 - c) * h->mean_lo + c * lo;
    h->mean_hi = (1 - c) * h->mean_hi + c * hi;
    if (fmax(-lo, hi) >= FLT_MIN) reach(h, fmax(-lo, hi));
    count(h, x, n);
    h->count += n;
    h->batches++;
    return DAN_OK;
}

int dan_calibrator_find(const char *name, const struct dan_calibrator **out, struct dan_err *e)
{
    struct dan_str list = {0};
    for (int i = 0; dan_calibrators[i]; i++) {
        if (!strcmp(dan_calibrators[i]->name, name)) {
            *out = dan_calibrators[i];
            dan_str_release(&list);
            return DAN_OK;
        }
        dan_str_printf(&list, "%s%s", i ? ", " : "", dan_calibrators[i]->name);
    }
    int rc = dan_fail(e, DAN_EINVAL, "unknown calibrator '%s'; use one of: %s", name, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

void dan_range_scale(const struct dan_range *r, const struct dan_range_opts *o, float *scale, float *zero)
{
    double top = ldexp(1, (o->bits ? o->bits : 8) - 1), lo = fmin(r->lo, 0), hi = fmax(r->hi, 0);
    double s = o->asymmetric ? (hi - lo) / (2 * top - 1) : fmax(-lo, hi) / (top - 1);
    *scale = s >= (double)FLT_MIN ? (float)s : 1;
    *zero = o->asymmetric ? (float)fmax(-top, fmin(top - 1, rint(-top - lo / (double)*scale))) : 0;
}
