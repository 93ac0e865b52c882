/* The optimiser's part of a step over all parameters: gradient sums, norm, clipping, update, moving average.
 *
 * The elements of all parameters are cut into fixed chunks.  A step is one parallel region: every thread adds the squares
 * of its chunks' gradients, one barrier, every thread adds the chunks' sums in the same order, and updates its chunks.
 * Which thread has which chunk decides nothing: the same bits for any number of threads (R9). */
#ifndef DAN_TRAIN_OPTIM_STEP_H
#define DAN_TRAIN_OPTIM_STEP_H
#include "base/err.h"
#include "base/threads.h"
#include "train/optim.h"

struct dan_optim_span {                        /* one parameter */
    float *w, *slot[DAN_MAX_SLOTS], *ema;      /* ema NULL: none */
    const float *g;                            /* set before each step; NULL: this step leaves the parameter and its state alone */
    int64_t n;
    bool    decay;                             /* weight decay applies */
    double  rate;                              /* its learning rate is this times the step's; 0: the step's */
};

struct dan_optim_plan {
    const struct dan_optim *optim;
    const struct dan_optim_span *span;
    bool    avx2;                              /* the AVX2 loops, which give the same bits */
    int64_t n_chunks, n_elements;
    struct dan_optim_chunk *chunk;
    double *partial;                           /* sums of squares by chunk */
};
/* span[0..n) must stay where it is.  cpu: features that may be used. */
int  dan_optim_plan_new(const struct dan_optim *o, const struct dan_optim_span *span, int32_t n, uint64_t cpu,
                        struct dan_optim_plan *out, struct dan_err *e);
void dan_optim_plan_release(struct dan_optim_plan *p);

/* Returns the norm of all gradients.  With `apply`, and when the norm is finite, updates the weights: gradients are scaled
 * by clip / (norm + 1e-6) where the norm exceeds clip > 0 (as torch's clip_grad_norm_), a->grad_scale is not read, and
 * ema = keep ema + (1 - keep) w follows.  Weight decay is a->weight_decay for spans that decay. */
double dan_optim_step(const struct dan_optim_plan *p, struct dan_pool *pool, const struct dan_optim_args *a, double clip,
                      double ema_keep, bool apply);

#endif
