/* Static activations: one scale for all rows that a product reads, found on calibration text. */
#ifndef DAN_QUANT_STATIC_H
#define DAN_QUANT_STATIC_H
#include "quant/histogram.h"
#include "quant/observe.h"

struct dan_static_opts {
    const struct dan_calibrator *calibrator;   /* NULL: minmax */
    struct dan_range_opts range;
    double  momentum;                          /* of the moving average; 0: 0.01 */
    struct dan_pool *pool;
    bool  (*wants)(void *ctx, const struct dan_product *p);      /* NULL: all products */
    bool  (*progress)(void *ctx, int64_t done, int64_t total);
    void   *ctx;
};
struct dan_static_scale {
    const char *name;                          /* of the weights */
    struct dan_range seen, range;              /* extremes; what the calibrator keeps */
    double  clipped;                           /* part of the values outside of the range, to a bin */
    float   scale, zero;
    int32_t input;                             /* products with one number share it */
};
struct dan_static { struct dan_static_scale *v; size_t n; struct dan_products products; };

/* Scales of every wanted product; products that read the same rows have the same one.  The weights may be in any format: run it on the float
 * model, or on the quantised one to see what that makes.  NaN and infinities are refused, naming the product.  seen may be NULL. */
int  dan_static_observe(const struct dan_lm *lm, const struct dan_sequences *text, const struct dan_static_opts *o, struct dan_static *out,
                        struct dan_observed *seen, struct dan_err *e);
/* Gives the scales to the products of lm whose weights are int8 (dan_lm_set_input_scale); *n (may be NULL) gets how many those are. */
int  dan_static_apply(const struct dan_static *s, struct dan_lm *lm, size_t *n, struct dan_err *e);
void dan_static_release(struct dan_static *s);

#endif
