/* danlu ppo: the critic.
 *
 * With --lora-rank it is an adapter with a head of its own over the policy's base or, where it comes from elsewhere, over its own; else all weights
 * of a model of its own.  It begins as --value says, as the reward model, or as the policy with a head of zeros. */
#include <string.h>
#include "base/file.h"
#include "cli/adapter_options.h"
#include "cli/ppo.h"
#include "model/score.h"

static const char adapter[] = "critic";

/* *from: NULL: the policy.  A reward may have its weight behind it. */
static int source(const struct ppo *p, const char **from, struct dan_err *e)
{
    static const char model[] = "model:";
    const struct dan_strings *reward = &p->o->rl.reward;
    int rc = DAN_OK;
    *from = p->o->value;
    for (size_t i = 0; i < reward->n && !*from && !rc; i++) {
        double weight;
        const char *path;
        if (strncmp(reward->v[i], model, sizeof model - 1)) continue;
        rc = adapter_spec(p->t.cli->arena, reward->v[i] + sizeof model - 1, &path, &weight, e);
        if (!rc && dan_path_exists(path)) *from = path;
    }
    return rc;
}

static int check(const struct ppo *p, const struct dan_lm *lm, const char *from, struct dan_err *e)
{
    if (lm->model->time_major) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' is recurrent and cannot be a critic", from);
    if (lm->cfg.vocab != p->t.m.lm.cfg.vocab)
        return dan_fail(e, DAN_EINVAL, "the critic '%s' has a vocabulary of %lld, the policy one of %lld; they must read the same tokens", from, (long long)lm->cfg.vocab,
                        (long long)p->t.m.lm.cfg.vocab);
    int64_t longest = dan_lm_longest(&lm->cfg);
    if (longest < p->t.longest)
        return dan_fail(e, DAN_EINVAL, "the critic '%s' reads %lld tokens, prompt and answer may have %lld; set --context %lld", from, (long long)longest,
                        (long long)p->t.longest, (long long)longest);
    return DAN_OK;
}

static int open_own(struct ppo *p, const char *from, struct dan_err *e)
{
    struct lm_files *m = &p->critic;
    int rc = lm_open(p->t.cli, from, false, m, e);
    if (!rc && !p->t.o.lora_rank) rc = lm_reload_own(m, from, e);
    return rc ? rc : check(p, &m->lm, from, e);
}

/* A head where there is none; an adapter's begins as what is there. */
static int add_head(struct dan_lm *lm, bool lora, const char *like, struct dan_err *e)
{
    struct dan_score_opts o = {.adapter = lora ? adapter : NULL, .like = like};
    return lora || !dan_lm_has_score(lm) ? dan_lm_add_score(lm, &o, e) : DAN_OK;
}

int ppo_open_critic(struct ppo *p, struct dan_err *e)
{
    const char *from, *like = NULL;
    int rc = source(p, &from, e);
    if (rc) return rc;
    bool lora = p->t.o.lora_rank > 0, shared = lora && !from;
    struct dan_lm *lm = shared ? &p->t.m.lm : &p->critic.lm;
    struct dan_tuner_opts o = tune_tuner_opts(&p->t);
    struct dan_adapter was[DAN_MAX_ADAPTERS];
    rc = shared ? DAN_OK : open_own(p, from ? from : p->t.o.model, e);
    if (rc) return rc;
    int32_t n = lm->n_adapters;
    memcpy(was, lm->adapter, sizeof was);
    if (shared) lm->adapter[n - 1].on = lm->adapter[n - 1].trained = false;     /* the policy's, which tune_start added last */
    else if (lora && dan_lm_has_score(lm)) like = n && dan_lm_score_of(lm, lm->adapter[n - 1].name) ? lm->adapter[n - 1].name : "";
    if (lora) rc = tune_add_adapter(&p->t, lm, adapter, e);
    if (!rc) rc = add_head(lm, lora, like, e);
    o.head = DAN_HEAD_SCORE;
    o.ema = o.temperature = 0;
    if (!rc) rc = dan_tuner_new(lm, &o, p->t.m.pool, &p->critic_tuner, e);
    if (!shared) return rc;
    memcpy(lm->adapter, was, (size_t)n * sizeof *was);
    lm->adapter[n].on = lm->adapter[n].trained = false;
    return rc;
}

void ppo_close_critic(struct ppo *p)
{
    dan_tuner_free(p->critic_tuner);
    if (p->critic.dir) lm_close(&p->critic);
}

const struct dan_lm *ppo_critic_lm(const struct ppo *p) { return p->critic.dir ? &p->critic.lm : &p->t.m.lm; }
