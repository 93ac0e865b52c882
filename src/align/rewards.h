/* Several rewards as one number: the weighted sum of those that apply to an answer. */
#ifndef DAN_ALIGN_REWARDS_H
#define DAN_ALIGN_REWARDS_H
#include "align/rollout.h"

struct dan_rewards {
    struct dan_reward **reward;
    double *weight;
    size_t  n;
    bool    partial;                           /* what is scored is part of a whole: that no reward applies to any of it is no error */
};
/* Each SPEC[:WEIGHT]; what follows the last colon is a weight when it is a number and what stands before it is a whole SPEC
 * (number:2, length:5-20:0.5; but repetition:3 is repetition with its argument 3).  A command takes none: all behind its colon is its argument.
 * pool, cpu_mask: for rewards that are models. */
int  dan_rewards_open(const char *const *specs, size_t n, struct dan_pool *pool, uint64_t cpu_mask, struct dan_rewards *out, struct dan_err *e);
/* One more, which is taken over also when this fails. */
int  dan_rewards_add(struct dan_rewards *r, struct dan_reward *reward, double weight, struct dan_err *e);
void dan_rewards_close(struct dan_rewards *r);
const char *dan_rewards_name(const struct dan_rewards *r, size_t i);

/* total[answers]: NaN where no reward applies.  each, when not NULL: [n][answers], unweighted.  Fails when no answer of all gets a reward (unless
 * `partial`), and when one is infinite. */
int  dan_rewards_score(struct dan_rewards *r, const struct dan_rollouts *said, double *total, double *each, struct dan_err *e);

#endif
