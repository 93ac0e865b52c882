/* Quantisation-aware training: the trainer with products that see rounded numbers (pass fake_quant), scales that are set from
 * weights and data, learned, and at last left alone.
 *
 * Scales are params of lm->store beside the weights ("W.step", "W.input_step", "W.slope"), so checkpoints hold them and a resumed
 * run ends with the same bytes; model files do not know them, quant/export.h turns them into integers. */
#ifndef DAN_TRAIN_QAT_H
#define DAN_TRAIN_QAT_H
#include <string.h>
#include "data/shards.h"
#include "model/lm.h"
#include "pass/fake_quant.h"

struct dan_train_opts;
struct dan_pool;
struct dan_qat_opts {
    struct dan_quant_policy policy;            /* weight_bits and act_bits 0: off */
    int64_t start;                             /* the first step that sees rounded numbers */
    double  freeze;                            /* part of all steps, at the end, in which scales rest */
    double  step_rate, input_rate;             /* learning rates of weights' and inputs' scales: these times lr */
    double  clip_decay;                        /* PACT: decoupled weight decay of the clips */
    int64_t observe;                           /* micro-batches that set the scales of inputs */
};
static inline bool dan_qat_on(const struct dan_qat_opts *q) { return q->policy.weight_bits || q->policy.act_bits; }

/* scheme: w8a8, w4a8, w8, w4, w3, w2, w4a4; method: ste, clipped-ste, pact, lsq, dsq, dsq-soft, quantnoise; the errors list them.
 * group: columns of W that share a scale; -1: the scheme's (w8a8 and w8: 0, whole rows; else 32).  Inputs are rounded by row
 * where weights are, else by block of 32, as the products of the exported formats do; is_static: one learned or observed scale
 * for all, for whole rows or w4a4 only.  Fills everything else with its default. */
int dan_qat_policy(const char *scheme, const char *method, int64_t group, bool is_static, struct dan_qat_opts *out, struct dan_err *e);
/* Names for help and errors: "ste|clipped-ste|...". */
extern const char dan_qat_scheme_names[], dan_qat_method_names[];
/* The levels that inputs have after export, 8 bits, where a scheme trains with fewer: w4a4. */
bool dan_qat_is_study(const struct dan_quant_policy *p);

/* Adds the params that graph g has and lm->store lacks, as zeros. */
int  dan_qat_add_params(const struct dan_graph *g, struct dan_store *s, struct dan_err *e);
/* Sets "W.step" of every weight to the scales of least squared error, "W.slope" to the policy's. */
int  dan_qat_init_weights(struct dan_store *s, const struct dan_quant_policy *p, struct dan_err *e);
/* NAME is one of them. */
static inline bool dan_qat_is_param(const char *name) { return dan_quant_stem(name, strlen(name)) > 0; }
/* After an update of a scale or slope called `name`: it stays positive, PACT's shrink by their decay, a slope stays below what dan_qat_slope_bound says. */
void dan_qat_keep(const struct dan_qat_opts *q, const char *name, float *s, int64_t n, double lr, float bound);
/* The soft staircase ends as round: the bound of a slope after `done` steps and this one falls on a line towards step `rest`, where scales begin to rest, to no
 * less than 1e-3. */
float dan_qat_slope_bound(const struct dan_qat_opts *q, int64_t done, double rest);
/* The weights of `from` in memory of their own, without what training added. */
int  dan_qat_copy(const struct dan_lm *from, struct dan_lm *out, struct dan_err *e);

/* s of least sum of count[i] (x_i - s min(round(x_i / s), hi))^2, x_i = (i + 1/2) width: a histogram of |x|. */
float dan_qat_best_step(const double *count, int n, double width, int64_t hi);

/* ---- studies: PTQ and QAT side by side in one process ---------------------------------------- */

struct dan_qat_result {
    double loss, float_loss;                   /* validation, nats per token: rounded (hard), and with the same weights in float */
    double train_loss;                         /* mean of the last tenth of the steps; NAN without steps */
    int64_t tokens;                            /* of the validation */
};
/* Trains a copy of lm for o->steps steps (0: none, which is post-training quantisation by the policy's rounding: STE nearest,
 * CLIPPED least squared error) with o->qat, and evaluates it; lm is left alone.  o->qat off: the float control.  out_lm may be
 * NULL, else it is given the trained copy (dan_lm_release).  max_batches of validation; 0: all. */
int  dan_qat_run(const struct dan_lm *lm, const struct dan_shards *train, const struct dan_shards *val, const struct dan_train_opts *o,
                 int64_t max_batches, struct dan_pool *pool, struct dan_qat_result *out, struct dan_lm *out_lm, struct dan_err *e);

#endif
