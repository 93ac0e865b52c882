#include "align/rewards.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for rewards"); }

/* Cuts the weight off a copy of a spec; 1 where there is none. */
static double take_weight(char *spec)
{
    const struct dan_reward_kind *kind = dan_reward_find(spec);
    char *last = strrchr(spec, ':'), *first = strchr(spec, ':'), *end;
    if (!kind || kind->free_text || !last || (kind->arg && last == first)) return 1;
    double w = strtod(last + 1, &end);
    if (end == last + 1 || *end || !isfinite(w)) return 1;
    *last = 0;
    return w;
}

static int open_one(struct dan_rewards *r, const char *spec, const struct dan_reward_env *env, struct dan_err *e)
{
    char *copy = dan_strdup(spec);
    if (!copy) return no_memory(e);
    r->weight[r->n] = take_weight(copy);
    int rc = dan_reward_open_in(copy, env, &r->reward[r->n], e);
    dan_free(copy);
    if (!rc) r->n++;
    return rc;
}

int dan_rewards_open(const char *const *specs, size_t n, struct dan_pool *pool, uint64_t cpu_mask, struct dan_rewards *out, struct dan_err *e)
{
    const struct dan_reward_env env = {pool, cpu_mask};
    *out = (struct dan_rewards){.reward = dan_calloc(n + 1, sizeof *out->reward), .weight = dan_calloc(n + 1, sizeof *out->weight)};
    int rc = out->reward && out->weight ? DAN_OK : no_memory(e);
    for (size_t i = 0; i < n && !rc; i++) rc = open_one(out, specs[i], &env, e);
    if (rc) dan_rewards_close(out);
    return rc;
}

int dan_rewards_add(struct dan_rewards *r, struct dan_reward *reward, double weight, struct dan_err *e)
{
    struct dan_reward **rewards = dan_realloc(r->reward, (r->n + 1) * sizeof *rewards);
    if (rewards) r->reward = rewards;
    double *weights = rewards ? dan_realloc(r->weight, (r->n + 1) * sizeof *weights) : NULL;
    if (weights) r->weight = weights;
    if (!weights) {
        dan_reward_close(reward);
        return no_memory(e);
    }
    r->reward[r->n] = reward;
    r->weight[r->n++] = weight;
    return DAN_OK;
}

void dan_rewards_close(struct dan_rewards *r)
{
    for (size_t i = 0; i < r->n; i++) dan_reward_close(r->reward[i]);
    dan_free(r->reward);
    dan_free(r->weight);
    *r = (struct dan_rewards){0};
}

const char *dan_rewards_name(const struct dan_rewards *r, size_t i) { return dan_reward_name(r->reward[i]); }

static int sum_up(const struct dan_rewards *r, const struct dan_rollouts *said, const double *each, double *total, struct dan_err *e)
{
    size_t scored = 0;
    for (size_t a = 0; a < said->n; a++) {
        double sum = 0;
        int applied = 0;
        for (size_t i = 0; i < r->n; i++) {
            double x = each[i * said->n + a];
            if (isnan(x)) continue;
            if (isinf(x))
                return dan_fail(e, DAN_EINVAL, "reward '%s' of the answer to line %lld of '%s' is infinite", dan_rewards_name(r, i), (long long)said->v[a].prompt->line,
                                said->v[a].prompt->file);
            sum += r->weight[i] * x;
            applied++;
        }
        total[a] = applied ? sum : NAN;
        scored += applied > 0;
    }
    return scored || !said->n || r->partial ? DAN_OK
                              : dan_fail(e, DAN_EINVAL, "no reward applies to any of %zu answers (the first is to line %lld of '%s'); do the rows have what the rewards compare with?",
                                         said->n, (long long)said->v[0].prompt->line, said->v[0].prompt->file);
}

int dan_rewards_score(struct dan_rewards *r, const struct dan_rollouts *said, double *total, double *each, struct dan_err *e)
{
    struct dan_answer *a = dan_calloc(said->n + 1, sizeof *a);
    double *mine = each ? NULL : dan_calloc(r->n * said->n + 1, sizeof *mine), *at = each ? each : mine;
    int rc = a && at ? DAN_OK : no_memory(e);
    for (size_t i = 0; i < said->n && !rc; i++) a[i] = dan_said_answer(&said->v[i]);
    for (size_t i = 0; i < r->n && !rc; i++) rc = dan_reward_score(r->reward[i], a, said->n, at + i * said->n, e);
    if (!rc) rc = sum_up(r, said, at, total, e);
    dan_free(a);
    dan_free(mine);
    return rc;
}
