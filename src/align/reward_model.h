/* Reward models: a number for an answer, learnt from which answers people prefer (Christiano et al. 2017, Stiennon et al. 2020, Ouyang et al. 2022,
 * Touvron et al. 2023).
 *
 * The model has a score head (tuner.h, DAN_HEAD_SCORE); the value of an answer is that of its last row, the end of turn.  The loss of a step is the
 * mean over its groups of the mean over the group's pairs of  -ln sigmoid(r_i - r_j - margin) + center (r_i + r_j)^2,  i preferred to j.  Every answer is
 * scored once, however many pairs it is in. */
#ifndef DAN_ALIGN_REWARD_MODEL_H
#define DAN_ALIGN_REWARD_MODEL_H
#include "align/reward_data.h"
#include "align/tuner.h"

struct dan_rm_opts {
    double  margin;                            /* what the margins of rows are multiplied by; 0: none.  LLaMA 2: 1, or 3 for rows of 1, 2/3, 1/3, 0 */
    double  center;                            /* coefficient of (r_i + r_j)^2; TRL's usual one is 0.01 */
    int64_t batch;                             /* groups of a step */
    uint64_t seed;
};
struct dan_rm_stats {                          /* of a step: TRL's names; margin is r_i - r_j over pairs */
    double  loss, accuracy, margin, min_reward, mean_reward, max_reward;
    int64_t pairs, answers, ids;
};
struct dan_rm {
    struct dan_tuner *tuner;
    const struct dan_ranked *data;
    struct dan_rm_opts o;
    struct dan_packed pack;
    const struct dan_rank_group **group;       /* of a step */
    const struct dan_sft_row **row;            /* answers of a step */
    double *reward, *seeds;                    /* of these */
    float  *weight;                            /* room for the rows of a pack */
    int64_t *order, epoch;
};
/* tuner: with a score head, its max_rows is pack_rows; every answer must fit (as many rows as ids). */
int  dan_rm_init(struct dan_rm *r, struct dan_tuner *t, const struct dan_ranked *data, const struct dan_rm_opts *o, int64_t pack_rows, struct dan_err *e);
void dan_rm_release(struct dan_rm *r);
int64_t dan_rm_steps_per_epoch(const struct dan_rm *r);
/* Step number dan_tuner_steps. */
int  dan_rm_step(struct dan_rm *r, double lr, struct dan_rm_stats *out, double *norm, struct dan_err *e);

/* The loss of one group (above) of rewards[g->n]; seed[g->n] = d / d reward; *right: pairs in the right order, equal ones half. */
double dan_rm_group_loss(const struct dan_rank_group *g, const int32_t *rank, const double *reward, double margin, double center, double *seed, double *right);

/* value[n]: of each row, at its last id.  pack: of the tuner's max_rows. */
int  dan_rows_value(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, struct dan_packed *pack, double *value, struct dan_err *e);

#endif
