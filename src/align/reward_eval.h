/* How good a reward model is on ranked answers that it has not seen: numbers alone, from rewards. */
#ifndef DAN_ALIGN_REWARD_EVAL_H
#define DAN_ALIGN_REWARD_EVAL_H
#include "align/reward_data.h"

/* 95 % interval of a share x / n (Wilson 1927); x may be half-integer, n > 0. */
void dan_wilson(double x, double n, double *low, double *high);

enum { DAN_RM_BINS = 10, DAN_RM_LEVELS = 8 };
struct dan_rm_level { double from, to, accuracy, low, high; int64_t pairs; };
struct dan_rm_bin   { double predicted, observed; int64_t pairs; };      /* means of the bin's pairs */
enum dan_rm_by { DAN_BY_NOTHING, DAN_BY_MARGIN, DAN_BY_RANK };
struct dan_rm_report {
    int64_t groups, pairs, answers;
    double  loss;                              /* mean of -ln sigmoid(r_i - r_j), i preferred to j: no margin, no centring */
    double  accuracy, low, high;               /* share of pairs in the right order, equal rewards half; 95 % interval */
    double  margin;                            /* mean of r_i - r_j */
    double  preferred, other;                  /* mean reward of the better and of the worse answer, over pairs */
    double  mean, spread, min, max;            /* of rewards, over answers; spread: standard deviation */
    double  tokens;                            /* mean length of an answer */
    double  length;                            /* correlation of reward and length, over answers; 0 where one of them does not vary */
    double  longer_data, longer_model;         /* share of pairs of different length whose longer answer is preferred, by the data and by the model */
    /* Of the answer that the model prefers: predicted sigmoid(|r_i - r_j|), from 1/2 to 1 in DAN_RM_BINS equal bins, and how often the data agrees. */
    struct dan_rm_bin calibration[DAN_RM_BINS];
    double  ece;                               /* mean of |predicted - observed|, weighted by pairs */
    enum dan_rm_by by;                         /* levels: by the rows' margins, or by how many ranks lie between two answers */
    struct dan_rm_level level[DAN_RM_LEVELS], sure[4];      /* sure: quarters of the pairs by |r_i - r_j|, least first */
    int     n_levels, n_sure;
    bool    clustered;                         /* the interval of accuracy is a bootstrap over prompts (several pairs each), else Wilson's */
};
/* reward[rows.n].  seed: of the bootstrap. */
int  dan_rm_judge(const struct dan_ranked *d, const double *reward, uint64_t seed, struct dan_rm_report *out, struct dan_err *e);

#endif
