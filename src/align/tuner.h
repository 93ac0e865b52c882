/* A model that learns from rows which the caller packs, with weights of its choice.
 *
 * The gradient is that of  sum over rows of weight * -ln p(target):  with weights 1 / n it is supervised fine-tuning, with
 * weights -seed it is any loss whose derivative with respect to the log-probability of each token is known (pref.h, policy.h).
 * What learns is everything or, when an adapter of the model is `trained` (model/lora.h), that alone. */
#ifndef DAN_ALIGN_TUNER_H
#define DAN_ALIGN_TUNER_H
#include "align/pack.h"
#include "base/threads.h"
#include "model/lm.h"
#include "train/optim.h"

struct dan_tuner_opts {
    int64_t max_rows;                          /* rows of one run */
    const struct dan_optim *optim;
    double  beta1, beta2, eps, weight_decay, momentum, clip, ema;
    bool    nesterov, remat;
    enum dan_prec prec;
    struct dan_pass_opts pass;                 /* fusion; dump and note */
    bool    ref;
    uint64_t cpu_mask;
};

struct dan_tuner;
/* lm and pool must outlive it.  Recurrent families are refused: their rows are ordered by time. */
int  dan_tuner_new(struct dan_lm *lm, const struct dan_tuner_opts *o, struct dan_pool *pool, struct dan_tuner **out, struct dan_err *e);
void dan_tuner_free(struct dan_tuner *t);
/* Forward alone: nll[rows] of the pack, in nats (0 where a row has no target).  By the program that trains where `exact`, whose bits are
 * those of dan_tuner_add (its backward runs in vain); else by one without gradients. */
int  dan_tuner_score(struct dan_tuner *t, const struct dan_packed *p, bool exact, float *nll, struct dan_err *e);
/* Adds the pack's gradient to the sum; nll may be NULL. */
int  dan_tuner_add(struct dan_tuner *t, const struct dan_packed *p, float *nll, struct dan_err *e);
/* One step of the optimiser by the sum of gradients, which is empty afterwards.  *norm: of the sum, before clipping; where it is not finite
 * nothing changes and the call fails. */
int  dan_tuner_step(struct dan_tuner *t, double lr, double *norm, struct dan_err *e);
void dan_tuner_swap_ema(struct dan_tuner *t);  /* as dan_trainer_swap_ema */
int64_t dan_tuner_steps(const struct dan_tuner *t);
int64_t dan_tuner_params(const struct dan_tuner *t);             /* elements that learn */
size_t  dan_tuner_bytes(const struct dan_tuner *t);              /* optimiser state, gradient sums, activations */
/* State for checkpoints: slots, sums and averages by name; steps. */
struct dan_store *dan_tuner_state(struct dan_tuner *t);
void dan_tuner_set_steps(struct dan_tuner *t, int64_t steps);

#endif
