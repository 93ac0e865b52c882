/* For the methods among themselves. */
#ifndef DAN_QUANT_ROUNDING_H
#define DAN_QUANT_ROUNDING_H
#include "quant/round.h"

extern const struct dan_round_method dan_round_nearest, dan_round_mse, dan_round_imatrix, dan_round_gptq, dan_round_adaround,
    dan_round_signround;

/* Mean squares of the columns as weights of their errors, [K]; the caller's to dan_free. */
int dan_round_importance(const struct dan_moments *x, float **out, struct dan_err *e);

/* y[rows,K] = d[rows,K] h[K,K], or (with square) y[K,K] = d^T d: products by the program's own kernels, which give the same bits for
 * any number of threads.  One object serves calls with up to max_rows. */
struct dan_dense;
int  dan_dense_new(int64_t max_rows, int64_t k, bool square, struct dan_pool *pool, struct dan_dense **out, struct dan_err *e);
void dan_dense_free(struct dan_dense *p);
int  dan_dense_run(struct dan_dense *p, const float *d, int64_t rows, const float *h, const float **y, struct dan_err *e);

#endif
