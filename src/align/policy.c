#include "align/policy.h"
#include "align/scalar.h"
#include "base/err.h"

double dan_kl_estimate(enum dan_kl k, double policy, double ref)
{
    double d = policy - ref;
    return k == DAN_K1 ? d : k == DAN_K2 ? d * d / 2 : expm1(-d) + d;
}

double dan_kl_loss(enum dan_kl k, double policy, double ref, double *seed)
{
    DAN_ASSERT(k != DAN_K1);
    *seed = k == DAN_K2 ? policy - ref : -expm1(ref - policy);
    return dan_kl_estimate(k, policy, ref);
}

void dan_kl_rewards(const double *old, const double *ref, int64_t n, double beta, double score, double *reward)
{
    for (int64_t t = 0; t < n; t++) reward[t] = -beta * (old[t] - ref[t]);
    if (n) reward[n - 1] += score;
}

void dan_gae(const double *reward, const double *value, int64_t n, double gamma, double lambda, double *advantage, double *returns)
{
    double next_value = 0, next = 0;
    for (int64_t t = n - 1; t >= 0; t--) {
        next = reward[t] + gamma * next_value - value[t] + gamma * lambda * next;
        next_value = value[t];
        advantage[t] = next;
        returns[t] = next + value[t];
    }
}

void dan_whiten(double *x, int64_t n, bool shift, bool unbiased)
{
    double mean = 0, var = 0;
    if (n == 0) return;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean);
    var /= (double)(unbiased && n > 1 ? n - 1 : n);
    double by = 1 / sqrt(var + 1e-8), add = shift ? 0 : mean;
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] - mean) * by + add;
}

double dan_ppo_loss(double policy, double old, double advantage, double low, double high, double *seed, bool *clipped)
{
    double rho = exp(policy - old), plain = -advantage * rho, bounded = -advantage * dan_clamp(rho, 1 - low, 1 + high);
    *clipped = bounded > plain;
    *seed = *clipped ? 0 : plain;
    return *clipped ? bounded : plain;
}

double dan_value_loss(double value, double old, double returns, double range, double *seed, bool *clipped)
{
    double near = range > 0 ? dan_clamp(value, old - range, old + range) : value;
    double plain = value - returns, bounded = near - returns;
    *clipped = bounded * bounded > plain * plain;
    *seed = *clipped ? (near == value ? bounded : 0) : plain;
    return (*clipped ? bounded * bounded : plain * plain) / 2;
}

void dan_group_advantages(enum dan_group_advantage how, const double *reward, int n, double *advantage)
{
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += reward[i] / n;
    for (int i = 0; i < n; i++) var += (reward[i] - mean) * (reward[i] - mean);
    double by = how == DAN_GROUP_GRPO ? 1 / (sqrt(n > 1 ? var / (n - 1) : 0) + 1e-4) : how == DAN_GROUP_RLOO && n > 1 ? (double)n / (n - 1) : 1;
    for (int i = 0; i < n; i++) advantage[i] = (reward[i] - mean) * by;
}

bool dan_group_flat(const double *reward, int64_t n)
{
    double first = NAN;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(reward[i])) continue;
        if (isnan(first)) first = reward[i];
        if (reward[i] != first) return false;
    }
    return true;
}

double dan_overlong(int64_t tokens, int64_t most, int64_t buffer)
{
    int64_t over = tokens - (most - buffer);
    return over <= 0 ? 0 : over >= buffer ? -1 : -(double)over / (double)buffer;
}

double dan_token_weight(enum dan_token_weight how, int64_t answers, int64_t tokens_of_answer, int64_t tokens_of_step, int64_t most_tokens)
{
    double by = how == DAN_WEIGHT_ANSWER ? (double)answers * (double)tokens_of_answer
                : how == DAN_WEIGHT_STEP ? (double)tokens_of_step
                                         : (double)answers * (double)most_tokens;
    return by > 0 ? 1 / by : 0;
}

void dan_kl_control_update(struct dan_kl_control *c, double kl, int64_t episodes)
{
    if (c->target > 0) c->beta *= 1 + dan_clamp(kl / c->target - 1, -0.2, 0.2) * (double)episodes / c->horizon;
}

double dan_best_of_kl(int n) { return log(n) - (double)(n - 1) / n; }
