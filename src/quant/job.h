/* Quantising a model from beginning to end: equalise, find scales of activations, round. */
#ifndef DAN_QUANT_JOB_H
#define DAN_QUANT_JOB_H
#include "quant/apply.h"
#include "quant/static.h"

enum dan_equaliser { DAN_EQUALISE_NOT, DAN_EQUALISE_SMOOTH, DAN_EQUALISE_AWQ };
struct dan_quant_job {
    struct dan_apply_opts apply;               /* form or form_of, keep, order, round, report; method and text are set by the job */
    const struct dan_round_method *method;
    enum dan_equaliser equaliser;
    double alpha;                              /* smoothquant: 0..1; below 0: searched for every group */
    const struct dan_calibrator *calibrator;   /* static activations of int8 products; NULL: dynamic */
    dan_equalise_report *equalised;            /* called with apply.ctx; may be NULL */
};
/* "nearest", "awq", "smoothquant+gptq", ...: an equaliser, a method of rounding, or both; an equaliser alone rounds to nearest. */
int  dan_quant_job_method(const char *text, struct dan_quant_job *j, struct dan_err *e);
bool dan_quant_job_needs_text(const struct dan_quant_job *j);
/* lm: in float, not bound to a program; f32 tensors become its own where an equaliser changes them.  *n_static (may be NULL): products that got
 * a static scale of activations. */
int  dan_quant_job_run(struct dan_lm *lm, const struct dan_quant_job *j, const struct dan_sequences *text, size_t *n_static, struct dan_err *e);

/* Tokens of b of which a holds the same run of 16 tokens, as a share of all; 0 where b has no 16 tokens. */
int  dan_sequences_overlap(const struct dan_sequences *a, const struct dan_sequences *b, double *out, struct dan_err *e);

/* A short measurement: tokens a second of prefill (a chunk of at most 256 rows) and of decoding one sequence, each the median of some runs
 * within about `seconds`.  Other work on the machine shows in it. */
struct dan_quant_speed { double prefill, decode; int64_t rows; };
int  dan_quant_speed(struct dan_lm *lm, struct dan_pool *pool, uint64_t cpu_mask, double seconds, struct dan_quant_speed *out, struct dan_err *e);

#endif
