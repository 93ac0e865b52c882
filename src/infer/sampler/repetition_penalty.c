/* CTRL's penalty (Keskar et al. 2019): logits of tokens that occurred, prompt included, are divided by the penalty
 * when positive and multiplied when negative.  As transformers' RepetitionPenaltyLogitsProcessor. */
#include "infer/sampler.h"

static bool on(const struct dan_sampling *p) { return p->repetition_penalty > 0 && p->repetition_penalty != 1; }

static void apply(const struct dan_sampling *p, struct dan_candidates *c)
{
    float by = (float)p->repetition_penalty;
    for (int64_t i = 0; i < c->n_history; i++)
        if (c->history[i] >= 0 && c->history[i] < c->vocab) c->mark[c->history[i]] = 1;
    for (int64_t i = 0; i < c->n; i++)
        if (c->mark[c->id[i]]) c->logit[i] = c->logit[i] < 0 ? c->logit[i] * by : c->logit[i] / by;
    for (int64_t i = 0; i < c->n_history; i++)
        if (c->history[i] >= 0 && c->history[i] < c->vocab) c->mark[c->history[i]] = 0;
}

const struct dan_sampler dan_sampler_repetition_penalty = {
    .name = "repetition_penalty", .doc = "makes tokens that occurred less likely", .rank = 10, .greedy = true, .on = on, .apply = apply,
};
