/* `danlu train` in three files: options (cmd_train.c), preparing (train_prepare.c), the loop (train_loop.c). */
#ifndef DAN_CLI_TRAIN_RUN_H
#define DAN_CLI_TRAIN_RUN_H
#include "cli/cmd.h"
#include "cli/qat_options.h"
#include "cli/trace.h"
#include "data/shards.h"
#include "io/runs.h"
#include "model/lm.h"
#include "text/tokenizer.h"
#include "train/trainer.h"

struct train_opts {
    const char *model, *tokenizer, *schedule, *optimizer, *dtype, *out, *fusion, *dump_after, *field, *init;
    struct dan_strings data;
    int64_t layers, hidden, heads, kv_heads, ffn, context, vocab;
    int64_t steps, batch, accumulate, warmup, eval_every, eval_batches, save_every, keep, patience;
    double  val_fraction, lr, min_lr, weight_decay, beta1, beta2, eps, momentum, clip, dropout, ema, decay_fraction, memory_limit, init_std;
    bool    resume, remat, nesterov, bias, tied, allow_invalid, graph, trace, ref;
    struct qat_cli qat;
};

struct train_run {
    struct train_opts o;
    struct dan_cli *cli;
    struct dan_pool *pool;
    struct dan_tokenizer *tok;
    struct dan_shards *train, *val;
    struct dan_lm lm;
    struct dan_train_opts t;
    struct dan_trainer *trainer;
    struct dan_trace trace;
    struct dan_runs *runs;
    struct dan_run record;
    int64_t expected_peak;                     /* bytes resident, known before the first step */
    int64_t run_id, last_saved;
    int     lock;                              /* of OUT (base/lock.h) */
    double best, last_val, last_float;         /* last_float: validation without rounding, under --qat */
    bool   best_saved;                         /* the model folder holds the weights of `best` */
    int64_t bad_evals, first_step;
    struct curve { double *x, *y; size_t n, cap; } loss, val_loss;
};

int  train_prepare(struct train_run *r, struct dan_err *e);          /* tokenizer, data, model, memory check, trainer */
int  train_loop(struct train_run *r, struct dan_err *e);
void train_release(struct train_run *r);
int  curve_add(struct curve *c, double x, double y);
const char *train_path(struct train_run *r, const char *name);       /* OUT/name, in the command's arena */

#endif
