/* Inside the trainer. */
#ifndef DAN_TRAIN_TRAINER_IMPL_H
#define DAN_TRAIN_TRAINER_IMPL_H
#include "exec/exec.h"
#include "train/optim_step.h"
#include "train/trainer.h"

struct slot_param {
    const char *name;                          /* of the graph's param; "a+b" when fused */
    float  *acc;                               /* gradient sum of micro-batches, NULL when accumulate = 1 */
    int32_t output;                            /* graph output that is its gradient */
    int32_t twin_output;                       /* of the float twin; -1: a scale, which it does not have */
};

/* Quantisation-aware training: the same model in float.  Trains until rounding begins, and tells the float loss. */
struct trainer_twin { struct dan_graph *graph, *eval_graph; struct dan_program *program, *eval_program; int32_t loss_output, eval_loss_output; };

struct dan_trainer {
    struct dan_lm *lm;
    struct dan_train_opts o;
    struct dan_pool *pool;
    struct dan_graph *graph, *eval_graph;
    struct dan_program *program, *eval_program;
    struct trainer_twin twin;
    bool   rounds;                             /* scales are set, `program` is the one that trains */
    struct dan_batches *batches;
    const struct dan_shards *train, *val;
    struct dan_store *slots;                   /* optimiser state, EMA, gradient sums */
    struct slot_param *param;
    struct dan_optim_span *span;               /* the same parameters, as the optimiser sees them */
    struct dan_optim_plan plan;
    int32_t n_params;
    struct dan_batch batch;
    int32_t *ints;                             /* the arrays of `batch` */
    int64_t rows;
    int32_t seed[2];
    int64_t step;
    int32_t loss_output, eval_loss_output;
};

int dan_trainer_bind(struct dan_trainer *t, struct dan_program *p, struct dan_err *e);   /* the batch arrays, with batch.rows rows */

struct dan_program *dan_trainer_active(const struct dan_trainer *t);   /* that trains now */
enum dan_layout dan_trainer_layout(const struct dan_trainer *t);
/* qat.c: after each update scales stay positive, PACT's clips shrink. */
void dan_qat_after_step(struct dan_trainer *t, double lr);
/* The scale rests: not begun, or frozen. */
bool dan_qat_rests(const struct dan_trainer *t, const struct slot_param *p);

#endif
