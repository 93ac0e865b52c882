/* Ranges of activations: what was seen, and rules that make a scale of it.
 *
 * A histogram has bins of one width over |x|, 2048 of them up to the largest |x| of the first batch; later ones append bins, as
 * TensorRT's calibrator does.  Positive and negative values are counted apart.  Beyond 16384 bins neighbours are joined. */
#ifndef DAN_QUANT_HISTOGRAM_H
#define DAN_QUANT_HISTOGRAM_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct dan_histogram {
    double   lo, hi;                           /* smallest and largest of all values */
    double   mean_lo, mean_hi;                 /* moving averages of those of each batch */
    double   momentum;                         /* weight of a new batch */
    double   width;                            /* of a bin; 0: nothing but zeros so far */
    int64_t  count, batches, n_bins;
    uint64_t *pos, *neg;                       /* [n_bins]: x >= 0, x < 0 with b width <= |x| < (b + 1) width; in the last bin also = */
};
/* momentum 0: 0.01 */
int  dan_histogram_init(struct dan_histogram *h, double momentum, struct dan_err *e);
void dan_histogram_release(struct dan_histogram *h);
/* One batch.  NaN and infinities are refused, `what` says where. */
int  dan_histogram_add(struct dan_histogram *h, const float *x, int64_t n, const char *what, struct dan_err *e);

struct dan_range_opts {
    int     bits;                              /* 0: 8 */
    bool    asymmetric;                        /* levels cover lo..hi; else -m..m */
    double  percentile;                        /* 0: 99.99; of |x|, or half of what it leaves out on either side */
};
struct dan_range { double lo, hi; };           /* of the values that keep their place; others are clipped */

/* One rule from a histogram to a range; h has values. */
struct dan_calibrator {
    const char *name, *doc;
    int (*range)(const struct dan_histogram *h, const struct dan_range_opts *o, struct dan_range *out, struct dan_err *e);
};
extern const struct dan_calibrator dan_calibrator_minmax, dan_calibrator_average, dan_calibrator_percentile, dan_calibrator_kl, dan_calibrator_mse;
extern const struct dan_calibrator *const dan_calibrators[];      /* NULL-terminated */
int dan_calibrator_find(const char *name, const struct dan_calibrator **out, struct dan_err *e);   /* the error lists them */

/* x is used as scale (clamp(rint(x / scale) + zero, -2^(bits - 1), 2^(bits - 1) - 1) - zero).  Symmetric: scale = max(|lo|, |hi|) /
 * (2^(bits - 1) - 1), zero = 0.  Asymmetric: 0 joins the range and is exact, scale = (hi - lo) / (2^bits - 1),
 * zero = rint(-2^(bits - 1) - lo / scale), clamped.  A range of zeros has scale 1. */
void dan_range_scale(const struct dan_range *r, const struct dan_range_opts *o, float *scale, float *zero);

/* The search of TensorRT's entropy calibrator (Migacz 2017, "8-bit inference with TensorRT"): the number of bins i in [start, n], in steps of
 * `stride`, for which bins [0, i) quantised to `levels` levels have the smallest Kullback-Leibler divergence from the bins with all that lies
 * beyond in the last; of equals the last.  bins[0] counts as bins[1]: zeros say nothing.  tmp: [levels]. */
struct dan_kl_level { double sum; int64_t n; };
int64_t dan_kl_bins(const uint64_t *bins, int64_t n, int64_t start, int64_t stride, int levels, struct dan_kl_level *tmp);

#endif
