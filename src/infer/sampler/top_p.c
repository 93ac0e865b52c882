/* Nucleus sampling (Holtzman et al. 2020): keeps the fewest most likely tokens whose probabilities reach p; a token stays
 * when those more likely than it sum to less than p.  As transformers' TopPLogitsWarper; among equal logits lower
 * ids come first. */
#include <math.h>
#include <stdlib.h>
#include "infer/sampler.h"

static bool on(const struct dan_sampling *p) { return p->top_p > 0 && p->top_p < 1; }

static int larger_first(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Tokens with less than (1-p)/n are all in the tail, which sums to less than 1-p: they need no sorting. */
static int64_t worth_sorting(const struct dan_candidates *c, double top_p)
{
    double least = (1 - top_p) / (double)c->n;
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++)
        if (c->p[i] >= least) c->scratch[n++] = c->logit[i];
    return n;
}

/* Of the tokens whose logit is `bound`, only the first `keep` stay. */
static void drop_ties(struct dan_candidates *c, float bound, int64_t keep)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) {
        if (c->logit[i] == bound && keep-- <= 0) continue;
        c->id[n] = c->id[i];
        c->logit[n++] = c->logit[i];
    }
    c->n = n;
}

static void apply(const struct dan_sampling *p, struct dan_candidates *c)
{
    dan_candidates_softmax(c, c->p);
    int64_t n = worth_sorting(c, p->top_p), k = 0, ties = 0;
    qsort(c->scratch, (size_t)n, sizeof *c->scratch, larger_first);
    double sum = 0, most = 0;
    for (int64_t i = 0; i < c->n; i++) most = fmax(most, c->p[i]);
    for (; k < n && (k == 0 || sum < p->top_p); k++) {
        ties = k > 0 && c->scratch[k] == c->scratch[k - 1] ? ties + 1 : 1;
        sum += most * (double)expf(c->scratch[k] - c->scratch[0]);
    }
    if (k == 0) return;
    float bound = c->scratch[k - 1];
    dan_candidates_at_least(c, bound);
    drop_ties(c, bound, ties);
}

const struct dan_sampler dan_sampler_top_p = {
    .name = "top_p", .doc = "keeps the most likely tokens that reach probability p together", .rank = 40, .on = on, .apply = apply,
};
