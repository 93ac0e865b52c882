/* A model that learns from rows which the caller packs, with weights of its choice.
 *
 * With the language head the gradient is that of  sum over rows of weight * -ln p(target):  with weights 1 / n it is supervised fine-tuning, with
 * weights -seed it is any loss whose derivative with respect to the log-probability of each token is known (pref.h, policy.h).  With the score head
 * (model/score.h) it is that of  sum over rows of weight * value:  weights are derivatives of any loss with respect to each value.
 * What learns is everything or, when an adapter of the model is `trained` (model/lora.h), that alone. */
#ifndef DAN_ALIGN_TUNER_H
#define DAN_ALIGN_TUNER_H
#include "align/pack.h"
#include "base/threads.h"
#include "model/lm.h"
#include "train/optim.h"
#include "train/qat.h"

enum dan_head { DAN_HEAD_LM, DAN_HEAD_SCORE };

struct dan_tuner_opts {
    int64_t max_rows;                          /* rows of one run */
    enum dan_head head;
    bool    frozen;                            /* scores alone: nothing learns, no program for gradients; no optim needed */
    double  temperature;                       /* nll of softmax(logits / temperature); 0: 1 */
    double  lora_dropout, neftune;             /* of runs that add gradients (model.h, struct dan_io) */
    double  lora_plus;                         /* the rate of "lora_b" is so many times that of the rest (LoRA+, Hayou et al. 2024); 0: 1 */
    uint64_t seed;                             /* of dropout and noise */
    const struct dan_optim *optim;
    double  beta1, beta2, eps, weight_decay, momentum, clip, ema;
    bool    nesterov, remat;
    enum dan_prec prec;
    struct dan_pass_opts pass;                 /* fusion; dump and note */
    struct dan_qat_opts qat;                   /* products see rounded weights and inputs, adapters inside; off unless its policy has bits.  start is not looked at */
    bool    ref;
    uint64_t cpu_mask;
};

struct dan_tuner;
/* lm and pool must outlive it.  Recurrent families are refused: their rows are ordered by time. */
int  dan_tuner_new(struct dan_lm *lm, const struct dan_tuner_opts *o, struct dan_pool *pool, struct dan_tuner **out, struct dan_err *e);
void dan_tuner_free(struct dan_tuner *t);
/* Forward alone: out[rows] of the pack, nll in nats (0 where a row has no target) or, with the score head, values.  By the program that trains where
 * `exact`, whose bits are those of dan_tuner_add; else by one without gradients. */
int  dan_tuner_score(struct dan_tuner *t, const struct dan_packed *p, bool exact, float *out, struct dan_err *e);
/* The program that trains has dropout or noise: it is another one every time. */
bool dan_tuner_draws(const struct dan_tuner *t);
/* Adds the pack's gradient to the sum; out as above, or NULL. */
int  dan_tuner_add(struct dan_tuner *t, const struct dan_packed *p, float *out, struct dan_err *e);
/* Both in one run, of one forward: `seed` sees out[rows] and sets p->batch.weights[rows], then the gradient of these weights is added.  The bits are those of
 * dan_tuner_score (exact) and dan_tuner_add.  Where seed fails, nothing is added. */
typedef int dan_seed_rows(void *ctx, const float *out, struct dan_packed *p, struct dan_err *e);
int  dan_tuner_run(struct dan_tuner *t, struct dan_packed *p, dan_seed_rows *seed, void *ctx, struct dan_err *e);
/* One step of the optimiser by the sum of gradients, which is empty afterwards.  *norm: of the sum, before clipping; where it is not finite
 * nothing changes and the call fails. */
int  dan_tuner_step(struct dan_tuner *t, double lr, double *norm, struct dan_err *e);
/* As dan_trainer_swap_ema; norms of DoRA follow what they are of, which can be out of memory. */
int  dan_tuner_swap_ema(struct dan_tuner *t, struct dan_err *e);
int64_t dan_tuner_steps(const struct dan_tuner *t);
int64_t dan_tuner_params(const struct dan_tuner *t);             /* elements that learn */
size_t  dan_tuner_bytes(const struct dan_tuner *t);              /* optimiser state, gradient sums, activations */
/* State for checkpoints: slots, sums and averages by name; steps. */
struct dan_store *dan_tuner_state(struct dan_tuner *t);
void dan_tuner_set_steps(struct dan_tuner *t, int64_t steps);
/* From step number `from` (from 0) on, learned scales of quantisation-aware training rest, as trainer.h's do for the last part of its steps; without the call never. */
void dan_tuner_rest_scales(struct dan_tuner *t, double from);

/* tuner_qat.c: lm as it computes, the adapters that are on merged into weights of its own memory, and beside these the scales of quantisation-aware training,
 * which are lm's: what dan_qat_export takes. */
int  dan_tuner_merged(const struct dan_lm *lm, struct dan_lm *out, struct dan_err *e);
/* First values of the scales in lm's store, where they have none yet: those of least squared error for the weights with their adapters. */
int  dan_tuner_init_scales(struct dan_lm *lm, const struct dan_quant_policy *p, struct dan_err *e);

#endif
