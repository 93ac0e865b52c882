/* The arithmetic of policy gradients on language models: rewards and advantages per token, clipped objectives, KL control.
 * Arrays are per token of one answer, or of a batch of answers one after the other; log-probabilities in nats.
 * Sources: Schulman et al. 2015 (GAE), 2017 (PPO); Ziegler et al. 2019 and Ouyang et al. 2022 (KL in the reward, adaptive
 * coefficient); Shao et al. 2024 (GRPO); Ahmadian et al. 2024 (RLOO); Liu et al. 2025 (Dr. GRPO); Schulman 2020 (k1, k2, k3). */
#ifndef DAN_ALIGN_POLICY_H
#define DAN_ALIGN_POLICY_H
#include <stdbool.h>
#include <stdint.h>

/* Estimates of KL(policy || reference) from one token drawn from the policy: k1 = l - l_ref (unbiased, may be negative),
 * k2 = k1^2 / 2, k3 = e^-k1 - 1 + k1 (unbiased, not negative). */
enum dan_kl { DAN_K1, DAN_K2, DAN_K3 };
double dan_kl_estimate(enum dan_kl k, double policy, double ref);
/* As a term of the loss.  k1 is refused (its gradient is 0 on average); k2 is the gradient of KL(policy || ref), k3 that of
 * KL(ref || policy).  *seed = d / d policy. */
double dan_kl_loss(enum dan_kl k, double policy, double ref, double *seed);

/* reward[t] = -beta (old[t] - ref[t]), and score on the last token: what PPO maximises. */
void dan_kl_rewards(const double *old, const double *ref, int64_t n, double beta, double score, double *reward);
/* Generalised advantage estimation of one answer; the value after the last token is 0.
 *   delta_t = r_t + gamma V_t+1 - V_t,  A_t = delta_t + gamma lambda A_t+1,  returns_t = A_t + V_t */
void dan_gae(const double *reward, const double *value, int64_t n, double gamma, double lambda, double *advantage, double *returns);
/* x = (x - mean) / sqrt(var + 1e-8), then + mean unless `shift`; unbiased: n - 1 in the variance (TRL), else n (OpenAI 2019). */
void dan_whiten(double *x, int64_t n, bool shift, bool unbiased);

/* The clipped objective of one token: max(-A rho, -A clip(rho, 1 - low, 1 + high)), rho = e^(policy - old).  *seed = d / d policy;
 * *clipped: the clip is what counts. */
double dan_ppo_loss(double policy, double old, double advantage, double low, double high, double *seed, bool *clipped);
/* 1/2 max((V - R)^2, (clip(V, old +- range) - R)^2); range 0: no clip.  *seed = d / d V. */
double dan_value_loss(double value, double old, double returns, double range, double *seed, bool *clipped);

/* Advantages of a group of n answers to one prompt, from their rewards. */
enum dan_group_advantage {
    DAN_GROUP_GRPO,                            /* (r - mean) / (std + 1e-4), std unbiased; all 0 where all r are equal */
    DAN_GROUP_DR_GRPO,                         /* r - mean */
    DAN_GROUP_RLOO,                            /* r - mean of the others */
};
void dan_group_advantages(enum dan_group_advantage how, const double *reward, int n, double *advantage);
/* No two rewards of a group differ (NaN: an answer that has none): it teaches nothing. */
bool dan_group_flat(const double *reward, int64_t n);

/* What an answer of `tokens` tokens pays for coming near the most it may have (Yu et al. 2025, eq. 13): 0 up to most - buffer, then falling on a line to -1 at
 * `most`; 0 < buffer <= most. */
double dan_overlong(int64_t tokens, int64_t most, int64_t buffer);

/* What one token of answer i of a group weighs in the loss. */
enum dan_token_weight {
    DAN_WEIGHT_ANSWER,                         /* 1 / (answers of the step * tokens of this answer): GRPO as published */
    DAN_WEIGHT_STEP,                           /* 1 / tokens of the step: DAPO, and PPO */
    DAN_WEIGHT_CONSTANT,                       /* 1 / (answers of the step * most tokens an answer may have): Dr. GRPO */
};
double dan_token_weight(enum dan_token_weight how, int64_t answers, int64_t tokens_of_answer, int64_t tokens_of_step, int64_t most_tokens);

/* The coefficient of the KL penalty.  Adaptive (Ziegler et al. 2019): beta *= 1 + clip(kl / target - 1, -.2, .2) episodes / horizon. */
struct dan_kl_control { double beta, target, horizon; };         /* target 0: fixed */
void dan_kl_control_update(struct dan_kl_control *c, double kl, int64_t episodes);

/* Best of n: the mean of the largest of n draws out of samples[m], m >= n, without bias (weights C(i-1, n-1) / C(m, n) over the sorted
 * samples; pass@k is the same with 0 and 1), and the KL divergence of best-of-n from its source without ties, ln n - (n - 1) / n. */
double dan_best_of(const double *samples, int m, int n);
double dan_best_of_kl(int n);

#endif
