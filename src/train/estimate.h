/* What a model costs before it is made: parameters, arithmetic, memory.  Builds and plans graphs; takes no large memory. */
#ifndef DAN_TRAIN_ESTIMATE_H
#define DAN_TRAIN_ESTIMATE_H
#include "train/trainer.h"

enum dan_part { DAN_PART_EMBEDDING, DAN_PART_ATTENTION, DAN_PART_FFN, DAN_PART_RECURRENT, DAN_PART_NORM, DAN_PART_HEAD, DAN_N_PARTS };
const char *dan_part_name(enum dan_part p);

struct dan_estimate {
    int64_t params[DAN_N_PARTS], total;        /* a tied head counts as embedding */
    double  forward_flops, train_flops;        /* per token at the given context, from the ops of the graphs */
    double  rule_6n;                           /* 6 x parameters: the rule of thumb for training (Kaplan et al. 2020, 2.1) */
    struct dan_memory memory;                  /* of training */
    int64_t state_bytes;                       /* generating: KV cache per token, or hidden state per sequence (recurrent) */
};
/* o: batch, context, accumulate, optim, ema, remat, prec. */
int dan_estimate(const struct dan_model *m, const struct dan_lm_config *cfg, const struct dan_train_opts *o, struct dan_estimate *out,
                 struct dan_err *e);

#endif
