/* Rounding one matrix W [N,K] of a product x W^T into a form (quant/grid.h): to the nearest level, or with what is known of the inputs
 * x [n,K], so that the product's error is least instead of the weights'.  H is sum x x^T over n rows of input; then for D = W' - W
 *
 *   sum over rows x of |x D^T|^2 = tr(D H D^T)
 *
 * Nothing here knows a model: quant/apply.h goes through one. */
#ifndef DAN_QUANT_ROUND_H
#define DAN_QUANT_ROUND_H
#include "base/threads.h"
#include "quant/grid.h"

/* What is known of the input of a product. */
struct dan_moments {
    int64_t k, n;                              /* columns; rows of input seen */
    double *squares;                           /* [K] sum x_j^2 */
    double *h;                                 /* [K,K] sum x x^T, or NULL */
};
int  dan_moments_new(int64_t k, bool with_h, struct dan_moments *out, struct dan_err *e);
void dan_moments_release(struct dan_moments *m);
/* x[rows,K] contiguous.  The same bits for any number of threads, and nearly (sums in f64 of f32 products of some rows) for any cut
 * into calls. */
int  dan_moments_add(struct dan_moments *m, const float *x, int64_t rows, struct dan_pool *pool, struct dan_err *e);

struct dan_round_opts {
    struct dan_pool *pool;
    double  damp;                              /* gptq: lambda as a share of H's mean diagonal; 0: 0.01 */
    bool    act_order;                         /* gptq: columns of large H_jj first, scales chosen beforehand */
    bool    plain_scales;                      /* gptq: a group's scales from its largest value, not by search */
    int64_t block;                             /* gptq: columns between updates of the rest; 0: 128.  No bit depends on it */
    int64_t steps;                             /* adaround, signround; 0: 200 */
    bool    any;                               /* keep the method's result also where nearest or mse is better on H */
};
struct dan_round_report {
    double error;                              /* root of sum (w' - w)^2 / sum w^2 */
    double loss, loss_nearest;                 /* tr(D H D^T) / tr(W H W^T), of the result and of nearest; -1 without H */
    double damp;                               /* gptq: the share that made H definite; 0: not gptq */
    int32_t retries;                           /* gptq: how often it was raised */
    int64_t dead;                              /* columns that were never anything but 0 */
    double soft;                               /* adaround: loss before the last rounding, as loss; -1: not adaround */
    const char *kept;                          /* the method whose result it is: "mse" where gptq was worse */
};

enum dan_round_needs { DAN_NEEDS_NOTHING, DAN_NEEDS_SQUARES, DAN_NEEDS_H };
struct dan_round_job {
    struct dan_grid *grid;                     /* of zeros */
    const float *w;                            /* [N,K] contiguous */
    const struct dan_moments *x;               /* as the method needs; else NULL or whatever is there */
    struct dan_round_opts o;
    struct dan_round_report *report;
};
struct dan_round_method {
    const char *name, *doc;
    enum dan_round_needs needs;
    bool steps;                                /* needs a form with levels one by one (dan_quant_form_steps) */
    int (*run)(struct dan_round_job *job, struct dan_err *e);
};
/* nearest, mse, imatrix, gptq, adaround, signround; NULL-terminated */
extern const struct dan_round_method *const dan_round_methods[];
int dan_round_method_find(const char *name, const struct dan_round_method **out, struct dan_err *e);

/* Rounds and reports.  With H, a method that did worse than nearest or mse is replaced by the better one (unless o.any): least loss
 * on these inputs, not a promise for others.  grid must be fresh.  Fails when moments are missing or w is not finite. */
int dan_round(const struct dan_round_method *m, struct dan_round_job *job, struct dan_err *e);

/* tr((W' - W) H (W' - W)^T), W' the grid's values. */
int dan_round_loss(const struct dan_grid *g, const float *w, const struct dan_moments *x, struct dan_pool *pool, double *out, struct dan_err *e);

/* For gptq and its tests: with H/n damped by lambda I (raised until it is definite), columns in order[K] (identity, or falling
 * diagonal), H^-1 = U^T U, U [K,K] upper triangular, row-major, f64, the caller's to dan_free. */
struct dan_gptq_factor { double *u; int64_t *order; double lambda, damp; int32_t retries; int64_t dead; };
int  dan_gptq_factor(const struct dan_moments *x, const struct dan_round_opts *o, struct dan_gptq_factor *out, struct dan_err *e);
void dan_gptq_factor_release(struct dan_gptq_factor *f);
/* The columns one after the other; *e2: sum of squared errors e = (w - q) / U_cc = tr(D (H/n + lambda I) D^T). */
int  dan_gptq_columns(struct dan_grid *g, const float *w, const struct dan_gptq_factor *f, const struct dan_round_opts *o, const float *importance,
                      double *e2, struct dan_err *e);

#endif
