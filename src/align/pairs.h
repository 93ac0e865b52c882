/* Learning from preferences: rows in pairs, log-probabilities of whole answers, and any loss of pref.h on them (DPO and its kin). */
#ifndef DAN_ALIGN_PAIRS_H
#define DAN_ALIGN_PAIRS_H
#include "align/pref.h"
#include "align/sft_data.h"
#include "align/tuner.h"

/* Preference pairs as rows: v[2 i] chosen, v[2 i + 1] rejected; learnt are the answer's tokens and what ends it, not the prompt.  K ranked answers give all
 * pairs of different rank.  A row of which one answer is too long or empty is skipped whole, as is one whose answers are the same once rendered. */
int  dan_pairs_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e);
/* Moves the pairs of every k-th row of the data, about `share`. */
int  dan_pairs_hold_out(struct dan_sft_data *from, double share, struct dan_sft_data *held, struct dan_err *e);

/* sum[n]: log-probability of each row's learnt tokens, by forward runs of the tuner; _exact by the program that trains, unless that draws: what dan_rows_learn
 * sees of the same weights, to the bit, in any precision.  So policy and reference are one number before the first step, and DPO's loss is ln 2. */
typedef int dan_logp_rows(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, struct dan_packed *pack, double *sum, struct dan_err *e);
dan_logp_rows dan_rows_logp, dan_rows_logp_exact;

/* Log-probabilities and gradient by one forward: rows in groups (2: pairs) are packed; seeds sees the log-probabilities of a group, first its row number, and
 * gives the derivatives with respect to them, which are divided by `by`.  A group that fits in no pack takes a forward more.
 * weight: room for pack->max_rows + 1. */
typedef void dan_group_seeds(void *ctx, size_t first, const double *logp, double *seed);
int  dan_rows_learn(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, size_t group, double by, struct dan_packed *pack, float *weight,
                    dan_group_seeds *seeds, void *ctx, struct dan_err *e);
enum { DAN_MOST_ANSWERS = 256 };               /* to one prompt: all their pairs are looked at */
/* Fails where answer `which` says nothing: white space alone, and it calls no tool. */
int  dan_check_answer(const struct dan_example *ex, size_t which, enum dan_skip *skip, struct dan_err *e);
/* Prompt and answer `which` of an example as a row of which the answer alone is learnt; *skip says why not. */
int  dan_answer_row(const struct dan_example *ex, size_t which, const struct dan_sft_data_opts *o, struct dan_sft_row *out, enum dan_skip *skip, struct dan_err *e);

struct dan_pref_stats {                        /* means over pairs; rewards are beta (policy - reference) */
    double loss, accuracy, margin, reward[2], logp[2];
    int64_t pairs, ids;
};
struct dan_prefs {
    struct dan_tuner *tuner;
    const struct dan_sft_data *data;           /* pairs */
    const struct dan_pref_loss *loss;
    struct dan_pref_opts opts;
    int64_t batch;                             /* pairs of a step */
    uint64_t seed;
    struct dan_packed pack;
    double *ref;                               /* [rows] under the model as it was when this began; NULL: the loss needs none */
    const struct dan_sft_row **row;            /* of a step */
    float  *weight;
    int64_t *order, epoch;
};
/* Scores every pair under the model as it is now: the reference. */
int  dan_prefs_init(struct dan_prefs *p, struct dan_tuner *t, const struct dan_sft_data *pairs, const struct dan_pref_loss *loss, const struct dan_pref_opts *o,
                    int64_t batch, int64_t pack_rows, uint64_t seed, struct dan_err *e);
void dan_prefs_release(struct dan_prefs *p);
int  dan_prefs_step(struct dan_prefs *p, double lr, struct dan_pref_stats *out, double *norm, struct dan_err *e);
/* On other pairs; ref[rows]: from dan_rows_logp before training. */
int  dan_prefs_eval(struct dan_prefs *p, const struct dan_sft_data *pairs, const double *ref, struct dan_pref_stats *out, struct dan_err *e);

#endif
