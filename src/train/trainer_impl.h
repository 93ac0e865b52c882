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
};

struct dan_trainer {
    struct dan_lm *lm;
    struct dan_train_opts o;
    struct dan_pool *pool;
    struct dan_graph *graph, *eval_graph;
    struct dan_program *program, *eval_program;
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

#endif
