/* Which way of quantising loses how much: small models are trained here, from several seeds, and every method is applied to each.
 *
 * For each seed: a base; the base with more steps in float (the control, because more steps alone help); post-training quantisation of the
 * control; quantisation-aware training of the base with the same number of more steps.  And the same with one channel of every norm made 64 times
 * as large, the weights behind it as much smaller, which changes no output: what training alone does not repair and equalising does. */
#ifndef DAN_QUANT_STUDY_H
#define DAN_QUANT_STUDY_H
#include "base/threads.h"
#include "data/shards.h"
#include "model/lm.h"

enum { DAN_STUDY_SEEDS = 16 };
struct dan_study_row {
    const char *method, *scheme;               /* "QAT lsq", "w3"; scheme "": float */
    const char *part;                          /* "", or "outlier" */
    double bits;                               /* of a weight, scales included */
    double loss[DAN_STUDY_SEEDS];              /* validation, nats per token; NAN: it failed (trained to not finite) */
};
struct dan_study {
    struct dan_study_row *v;
    size_t n, cap;
    int    seeds;
    int64_t params, tokens;                    /* of the model; of the validation */
};
struct dan_study_opts {
    const struct dan_model *model;
    struct dan_lm_config cfg;
    const struct dan_shards *train, *val;
    int     seeds;
    uint64_t seed;                             /* of the first */
    int64_t base_steps, more_steps, batch, eval_batches;
    double  lr;
    struct dan_pool *pool;
    bool  (*progress)(void *ctx, int64_t done, int64_t total, const char *what);     /* steps; false cancels; may be NULL */
    void   *ctx;
};
int  dan_study_run(const struct dan_study_opts *o, struct dan_study *out, struct dan_err *e);
void dan_study_release(struct dan_study *s);

/* Mean and half the range over seeds. */
struct dan_study_mean { double mean, half_range; };
struct dan_study_mean dan_study_mean_of(const struct dan_study *s, const struct dan_study_row *r);
/* NULL when there is none. */
const struct dan_study_row *dan_study_find(const struct dan_study *s, const char *part, const char *method, const char *scheme);
/* Of what post-training quantisation (nearest) lost against the control, the share that `method` has got back: mean over seeds; *least: of the worst
 * seed.  NAN where less than DAN_STUDY_LOST nats were lost: a share of nothing is noise. */
#define DAN_STUDY_LOST 0.005
double dan_study_recovered(const struct dan_study *s, const char *part, const char *method, const char *scheme, double *least);

#endif
