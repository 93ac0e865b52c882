/* Dynamic sampling (Yu et al. 2025, DAPO, 3.2): a group whose rewards are all the same has no advantage, so a step asks further prompts, in rounds, until it has
 * as many groups as it wants that teach something.
 *
 * The first round asks as many prompts as groups are wanted; each further one as many as it takes at the share of groups that were of use so far, at most so
 * many again.  What comes over is not learnt from, but counted: means over all answers are those of the policy, not of what was chosen from it. */
#ifndef DAN_ALIGN_DYNAMIC_H
#define DAN_ALIGN_DYNAMIC_H
#include "align/rollout.h"

struct dan_groups {                            /* of a step */
    struct dan_rollouts said;                  /* all answers of all rounds */
    double *total, *each;                      /* their rewards: [said.n]; [rewards][said.n] */
    int64_t rounds, prompts, flat;             /* rounds done; prompts asked; groups among them whose rewards are all the same */
    struct dan_rollouts learnt;                /* what is learnt from: entries of said, which owns them */
    double *reward;                            /* [learnt.n] */
};

/* Answers to the next n prompts of the caller's list, and their rewards, all of which the caller of it owns. */
typedef int dan_ask(void *ctx, int64_t round, int64_t n, struct dan_rollouts *said, double **total, double **each, struct dan_err *e);
/* Up to `want` groups that differ in at most `rounds` rounds; fewer where these do not suffice, and where there is none at all the first `want` as they are.
 * rounds 0: one round, and all of its groups are learnt from.  rewards: how many `each` has. */
int  dan_groups_sample(int64_t want, int64_t rounds, size_t rewards, dan_ask *ask, void *ctx, struct dan_groups *out, struct dan_err *e);
void dan_groups_release(struct dan_groups *g);

#endif
