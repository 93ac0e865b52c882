/* `danlu ppo` in three files: the command and its loop (cmd_ppo.c), the critic (ppo_critic.c), what is logged and told (ppo_report.c). */
#ifndef DAN_CLI_PPO_H
#define DAN_CLI_PPO_H
#include "align/ppo.h"
#include "cli/rl_options.h"

struct ppo_opts {
    struct tune_opts tune;
    struct rl_opts rl;
    const char *value;
    struct dan_strings ptx;
    double kl_beta, kl_target, kl_horizon, max_kl, gamma, lambda, clip_range, value_clip, vf_coef, score_clip, ptx_coef, ema, critic_lr, max_approxkl;
    int64_t answers, ppo_epochs, minibatches, ptx_windows;
    bool   whiten_rewards, keep_advantages;
};

struct ppo {
    struct tune t;
    struct ppo_opts *o;
    struct rl rl;
    struct lm_files critic;                    /* .dir NULL: an adapter over the policy's base */
    struct dan_tuner *critic_tuner;
    struct dan_sft_data ptx;
    struct dan_ppo ppo;
    struct dan_ppo_stats last;
    int64_t tokens, episodes, left_out;        /* left_out: answers that no reward applies to */
    double  seconds;
    struct tune_part part[2];
};

/* ppo_critic.c; after rl_start. */
int  ppo_open_critic(struct ppo *p, struct dan_err *e);
void ppo_close_critic(struct ppo *p);
const struct dan_lm *ppo_critic_lm(const struct ppo *p);

/* ppo_report.c */
json_t *ppo_metrics(const struct ppo *p, double seconds);        /* of the last update, TRL's names */
int  ppo_report(struct ppo *p, struct dan_err *e);

#endif
