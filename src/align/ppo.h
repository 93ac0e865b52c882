/* PPO for language models (Ziegler et al. 2019; Stiennon et al. 2020; Ouyang et al. 2022, with the pre-training mix).
 *
 * One update takes answers that the policy just gave, with their scores:
 *   reward of token t   -beta (old_t - ref_t), and the score on the last token; log-probabilities in nats
 *   values              of the state before each token, by the critic
 *   advantages          GAE; whitened over all tokens of the update; returns are taken before
 *   epochs x minibatches of shuffled answers: clipped policy loss and clipped value loss, means over the minibatch's tokens, and
 *                       ptx_coef * mean loss of pre-training windows
 * old and new log-probabilities come from one program whose rows do not depend on each other: in the first minibatch the ratio is 1 and
 * approxkl 0, exactly. */
#ifndef DAN_ALIGN_PPO_H
#define DAN_ALIGN_PPO_H
#include "align/policy.h"
#include "align/sft_data.h"
#include "align/tuner.h"

/* An answer as PPO sees it: ids[0 .. prompt) was given, the policy said the rest, its end-of-turn token included. */
struct dan_episode {
    const int32_t *ids;
    int64_t n, prompt;                         /* 1 <= prompt < n */
    bool    ended;                             /* by its end of turn, not by the limit of tokens */
    double  score;                             /* of the whole answer; finite */
};

struct dan_ppo_opts {
    double gamma, lambda, clip, value_clip;    /* value_clip 0: none */
    double vf_coef;                            /* weight of the critic's loss */
    double missing_eos_penalty;                /* taken off the score of an answer that did not end */
    double score_clip;                         /* scores are cut to +-this; 0: not */
    double ptx_coef;                           /* gamma_ptx; 0: no pre-training mix */
    double max_approxkl;                       /* the update's epochs end where a minibatch's approxkl passes this; 0: never */
    int64_t epochs, minibatches;               /* minibatches of an epoch */
    int64_t ptx_windows;                       /* of a minibatch */
    bool   whiten_rewards, whiten_advantages;  /* rewards without shift */
    uint64_t seed;
};

/* Means over the update: over answers (objective), over tokens and minibatches (policy, loss, val).  TRL's names in order. */
struct dan_ppo_stats {
    double kl, entropy, non_score_reward, rlhf_reward, scores;               /* objective/... ; entropy: of the sampled tokens, -sum of logs */
    double approxkl, clipfrac, policy_loss, value_loss, value_clipfrac;
    double ratio, ratio_var;                   /* ratio_var: of the minibatches' means */
    double first_ratio, first_approxkl;        /* of the first minibatch: 1 and 0 */
    double kl_coef;                            /* with which the rewards were made */
    double explained_variance;                 /* 1 - var(returns - values) / var(returns) before the update */
    double ptx_loss, policy_norm, ptx_norm;    /* nats per token; norms of the two parts of the first minibatch's gradient; 0 without ptx */
    double grad_norm, critic_norm;             /* of the last minibatch */
    int64_t eos, answers, tokens, minibatches; /* eos: answers that ended; minibatches: done */
};

struct dan_ppo {
    struct dan_tuner *policy, *critic;         /* the critic has a score head */
    struct dan_tuner *ref;                     /* scores alone; NULL: none, the KL term is 0 */
    const struct dan_sft_data *ptx;            /* windows of text, all learnt; NULL: none */
    struct dan_ppo_opts o;
    struct dan_kl_control kl;
    int64_t updates, ptx_at;                   /* done; windows taken */
    struct dan_ppo_work *work;
};
/* policy, critic and ref take max_rows rows of a run; no episode or window may be longer than max_rows + 1 ids. */
int  dan_ppo_init(struct dan_ppo *p, struct dan_tuner *policy, struct dan_tuner *critic, struct dan_tuner *ref, const struct dan_sft_data *ptx,
                  const struct dan_ppo_opts *o, const struct dan_kl_control *kl, int64_t max_rows, struct dan_err *e);
void dan_ppo_release(struct dan_ppo *p);
/* One update; lr of the policy and of the critic.  Where a score, a loss or a gradient is not finite it fails, and says where; the weights are
 * then those of the last step that was. */
int  dan_ppo_update(struct dan_ppo *p, const struct dan_episode *ep, int64_t n, double lr, double critic_lr, struct dan_ppo_stats *out, struct dan_err *e);

/* Per token of the last update, one answer after the other; the losses as its last epoch had them.  For tests and for showing. */
struct dan_ppo_trace { int64_t tokens; const double *old, *ref, *value, *reward, *advantage, *returns, *policy_loss, *value_loss; };
struct dan_ppo_trace dan_ppo_last(const struct dan_ppo *p);

#endif
