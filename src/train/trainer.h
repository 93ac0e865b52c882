/* The trainer: one program per micro-batch, gradients summed over micro-batches, one optimiser step.
 *
 * A step's loss is a sum of per-token losses with weights 1 / (targets of the whole step), so any
 * split into micro-batches gives the large batch's gradient; only the order of additions differs.
 * Everything a step does is a function of (weights, optimiser state, seed, step): a resumed run
 * ends with the same bytes (R9). */
#ifndef DAN_TRAIN_TRAINER_H
#define DAN_TRAIN_TRAINER_H
#include "base/threads.h"
#include "data/batches.h"
#include "model/lm.h"
#include "train/optim.h"
#include "train/qat.h"
#include "train/schedule.h"

struct dan_train_opts {
    int64_t steps, batch, accumulate, context; /* batch: sequences of a micro-batch; a step takes batch * accumulate */
    double  lr, min_lr, decay_fraction;
    int64_t warmup;
    const struct dan_schedule *schedule;
    const struct dan_optim    *optim;
    double  weight_decay, beta1, beta2, eps, momentum;   /* decay applies to tensors of two or more dims */
    bool    nesterov;
    double  clip;                              /* of the global gradient norm; 0 = off */
    double  dropout, ema;                      /* ema 0 = off */
    enum dan_prec prec;
    bool    remat;
    struct dan_qat_opts qat;                   /* off unless its policy has bits */
    uint64_t seed;
    int32_t threads;                           /* dan_train_memory: workspace for so many */
    struct dan_pass_opts pass;                 /* fusion; dump and note, for the training graph */
    bool ref;                                  /* reference kernels only, to bisect */
    uint64_t cpu_mask;                         /* CPU features to use; 0: all */
    void (*trace)(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out);
    void *trace_ctx;                           /* as in struct dan_exec_opts, of the training program */
};

struct dan_memory { size_t weights, gradients, optimiser, activations, data, total; };   /* bytes */
/* What training would need, by building and planning the graph; allocates no large memory. */
int dan_train_memory(const struct dan_model *m, const struct dan_lm_config *cfg, const struct dan_train_opts *o, struct dan_memory *out, struct dan_err *e);

struct dan_trainer;
/* lm and shards must outlive it; val may be NULL. */
int  dan_trainer_new(struct dan_lm *lm, const struct dan_shards *train, const struct dan_shards *val, const struct dan_train_opts *o,
                     struct dan_pool *pool, struct dan_trainer **out, struct dan_err *e);
void dan_trainer_free(struct dan_trainer *t);

struct dan_step_stats { int64_t step, tokens; double loss, lr, grad_norm, epoch; };
/* One optimiser step; step counts from 0, stats->step is the number of steps done.  A loss or gradient that is
 * not finite is an error (the weights are left as they were). */
int  dan_trainer_step(struct dan_trainer *t, struct dan_step_stats *out, struct dan_err *e);
int64_t dan_trainer_done(const struct dan_trainer *t);           /* steps done */
/* Mean loss over the validation split, in nats per token; max_batches 0 = all of it.  Uses the EMA weights when on.  Under
 * quantisation-aware training every number that is rounded is rounded hard, once rounding has begun. */
int  dan_trainer_eval(struct dan_trainer *t, int64_t max_batches, double *loss, int64_t *tokens, struct dan_err *e);
/* The same weights without any rounding. */
int  dan_trainer_eval_float(struct dan_trainer *t, int64_t max_batches, double *loss, int64_t *tokens, struct dan_err *e);
/* Quantisation-aware training: rounding has begun; sets the scales and begins now (a step does it when it is time). */
bool dan_trainer_rounds(const struct dan_trainer *t);
int  dan_trainer_begin_rounding(struct dan_trainer *t, struct dan_err *e);
/* Exchanges the weights with their moving average (no-op without ema): call again to swap back. */
void dan_trainer_swap_ema(struct dan_trainer *t);
void dan_trainer_memory(const struct dan_trainer *t, struct dan_memory *out);
const struct dan_graph *dan_trainer_graph(const struct dan_trainer *t);
const struct dan_program *dan_trainer_program(const struct dan_trainer *t);

/* Weights, optimiser state and step to OUT/checkpoints/step-NNNNNN; `extra` is the caller's JSON object
 * (best loss, ...), given back by resume (dan_free). */
int  dan_trainer_save(const struct dan_trainer *t, const char *out_dir, const char *extra_json, int keep, struct dan_err *e);
int  dan_trainer_resume(struct dan_trainer *t, const char *checkpoint, char **extra_json, struct dan_err *e);

#endif
