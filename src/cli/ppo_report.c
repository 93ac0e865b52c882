/* danlu ppo: metrics and the report. */
#include "cli/ppo.h"

static double missing(const struct dan_ppo_stats *s) { return 1 - (double)s->eos / (double)s->answers; }

json_t *ppo_metrics(const struct ppo *p, double seconds)
{
    const struct dan_ppo_stats *s = &p->last;
    json_t *j = json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:f}", "objective/kl", s->kl, "objective/entropy", s->entropy,
                          "objective/non_score_reward", s->non_score_reward, "objective/rlhf_reward", s->rlhf_reward, "objective/scores", s->scores,
                          "policy/approxkl_avg", s->approxkl, "policy/clipfrac_avg", s->clipfrac, "loss/policy_avg", s->policy_loss, "loss/value_avg", s->value_loss,
                          "val/clipfrac_avg", s->value_clipfrac, "val/ratio", s->ratio, "val/ratio_var", s->ratio_var, "val/num_eos_tokens", (json_int_t)s->eos,
                          "episode", (json_int_t)p->episodes, "eps", seconds > 0 ? (double)s->answers / seconds : 0);
    json_t *own = json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I}", "kl_coef", s->kl_coef, "val/explained_variance", s->explained_variance, "val/first_ratio",
                            s->first_ratio, "val/first_approxkl", s->first_approxkl, "length", (double)s->tokens / (double)s->answers, "missing_eos", missing(s), "grad_norm",
                            s->grad_norm, "critic_grad_norm", s->critic_norm, "num_tokens", (json_int_t)p->tokens);
    if (own && p->ptx.n) {
        json_object_set_new(own, "loss/ptx", json_real(s->ptx_loss));
        json_object_set_new(own, "ppo_grad_norm", json_real(s->policy_norm));
        json_object_set_new(own, "ptx_grad_norm", json_real(s->ptx_norm));
    }
    if (j && own) json_object_update(j, own);
    json_decref(own);
    return j;
}

int ppo_report(struct ppo *p, struct dan_err *e)
{
    struct dan_str out = {0};
    bool stepped = p->last.answers > 0;                             /* one that only had to be measured has no last update */
    json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:f,s:o*}", "model", p->t.o.model, "out", p->t.o.out, "updates", (json_int_t)p->ppo.updates, "episodes", (json_int_t)p->episodes,
                          "episodes_per_second", p->seconds > 0 ? (double)p->episodes / p->seconds : 0, "train", stepped ? ppo_metrics(p, 0) : NULL);
    int rc = j ? rl_report(&p->rl, j, &out, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for the report");
    if (rc) json_decref(j);
    if (stepped) dan_str_printf(&out, "last update    KL %.3f nats an answer (coefficient %.4g), entropy %.3f, critic explains %.0f %% of the returns\n", p->last.kl, p->ppo.kl.beta, p->last.entropy,
                                100 * p->last.explained_variance);
    if (!rc) rc = tune_report(&p->t, j, &out, e);
    dan_str_release(&out);
    return rc;
}
