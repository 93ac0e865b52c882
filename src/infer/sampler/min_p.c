/* Keeps tokens at least min_p times as likely as the most likely one (Nguyen et al. 2024).  As transformers' MinPLogitsWarper. */
#include <math.h>
#include "infer/sampler.h"

static bool on(const struct dan_sampling *p) { return p->min_p > 0; }

static void apply(const struct dan_sampling *p, struct dan_candidates *c)
{
    int64_t n = 0;
    double most = dan_candidates_softmax(c, c->p);
    for (int64_t i = 0; i < c->n; i++) {
        if (c->p[i] < p->min_p * most) continue;
        c->id[n] = c->id[i];
        c->logit[n++] = c->logit[i];
    }
    c->n = n;
}

const struct dan_sampler dan_sampler_min_p = {
    .name = "min_p", .doc = "keeps tokens at least min-p times as likely as the likeliest", .rank = 50, .on = on, .apply = apply,
};
