/* Policy gradients from groups of answers to one prompt, without a critic: GRPO (Shao et al. 2024), RLOO (Ahmadian et al. 2024), Dr. GRPO
 * (Liu et al. 2025), DAPO (Yu et al. 2025).
 *
 * One update takes the answers that the policy just gave, with their rewards:
 *   k1 in the reward     r = score - beta sum_t (old_t - ref_t);  k2, k3 in the loss of each token
 *   advantage            of each answer in its group, the same for all its tokens
 *   epochs x minibatches of shuffled answers: clipped loss, by token or (RLOO) by the ratio of whole answers
 * old and new log-probabilities come from one program whose rows do not depend on each other: in the first minibatch every ratio is 1 and
 * approxkl 0, exactly.  Where that minibatch is the only one, they come from one forward, unless the KL term is in the reward. */
#ifndef DAN_ALIGN_GROUP_H
#define DAN_ALIGN_GROUP_H
#include "align/policy.h"
#include "align/rollout.h"
#include "align/tuner.h"

struct dan_grpo_opts {
    enum dan_group_advantage advantage;
    enum dan_token_weight weight;
    bool   whole;                              /* one ratio for an answer: e^(sum over its tokens), weight 1 / answers */
    bool   drop_flat;                          /* groups whose rewards are all the same do not count among answers and tokens */
    bool   mask_truncated;                     /* answers that did not end have no loss */
    enum dan_kl kl;                            /* DAN_K1: in the reward */
    double beta, low, high;                    /* clip of the ratio: 1 - low .. 1 + high */
    int64_t epochs, minibatches, most_tokens;  /* most_tokens of an answer: DAN_WEIGHT_CONSTANT */
    uint64_t seed;
};

struct dan_grpo_variant { const char *name, *doc; struct dan_grpo_opts usual; };
extern const struct dan_grpo_variant dan_grpo_variants[];      /* grpo, rloo, dr_grpo, dapo; name NULL at the end */
const struct dan_grpo_variant *dan_grpo_variant_find(const char *name);        /* NULL: none */

/* Means over the tokens of the update's answers (kl: k3; 0 without a reference), over its minibatches (loss, clip) or of the last (grad_norm). */
struct dan_grpo_stats {
    double loss, kl, kl_answer, entropy;       /* kl_answer: sum of k1 over an answer's tokens, mean; entropy: -old, an estimate */
    double clip_low, clip_high, approxkl, ratio, grad_norm;
    double first_approxkl, first_ratio;        /* of the first minibatch: 0 and 1; largest |ratio - 1| + 1 */
    int64_t answers, learnt, flat, tokens;     /* answers with a reward; those with a loss; groups that teach nothing */
};

struct dan_grpo {
    struct dan_tuner *policy, *ref;            /* ref: scores alone; NULL: none, the KL term is 0 */
    struct dan_grpo_opts o;
    struct dan_packed pack;
    int64_t updates;                           /* done: what the shuffling depends on */
};
/* Both tuners take max_rows rows of a run; no answer may be longer than max_rows + 1 ids. */
int  dan_grpo_init(struct dan_grpo *g, struct dan_tuner *policy, struct dan_tuner *ref, const struct dan_grpo_opts *o, int64_t max_rows, struct dan_err *e);
void dan_grpo_release(struct dan_grpo *g);
/* One update; score[n]: NaN where an answer has none (it and, in its group, its weight are left out).  Where a loss or a gradient is not finite it
 * fails; the weights are then those of the last step that was. */
int  dan_grpo_update(struct dan_grpo *g, const struct dan_rollouts *said, const double *score, double lr, struct dan_grpo_stats *out, struct dan_err *e);

#endif
