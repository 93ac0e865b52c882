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

/* Sorting 32k logits takes 3 ms.  So: probability mass by distance from the largest logit, in BUCKETS buckets; only the
 * bucket in which the mass reaches p is sorted.  Tokens with less than (1-p)/n are all in the tail, which sums to less
 * than 1-p: buckets end there. */
enum { BUCKETS = 1024 };
struct nucleus { double least, most, before; float max, width, by; int in; };        /* by = 1 / width */

static int bucket_of(const struct nucleus *u, float logit)
{
    float at = (u->max - logit) * u->by;
    return at < BUCKETS - 1 ? (int)at : BUCKETS - 1;
}

/* The bucket where the mass reaches top_p, and the mass before it. */
static void find_bucket(const struct dan_candidates *c, double top_p, struct nucleus *u)
{
    double mass[BUCKETS] = {0};
    u->max = dan_candidates_top(c);
    u->least = (1 - top_p) / (double)c->n;
    u->width = (float)(log(u->most / u->least) / BUCKETS) + 1e-6f;
    u->by = 1 / u->width;
    for (int64_t i = 0; i < c->n; i++)
        mass[bucket_of(u, c->logit[i])] += c->p[i] >= u->least ? c->p[i] : 0;
    while (u->in < BUCKETS - 1 && u->before + mass[u->in] < top_p) u->before += mass[u->in++];
}

static int64_t gather(const struct dan_candidates *c, const struct nucleus *u)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) {
        c->scratch[n] = c->logit[i];
        n += (c->p[i] >= u->least) & (bucket_of(u, c->logit[i]) == u->in);
    }
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
    struct nucleus u = {0};
    u.most = dan_candidates_softmax(c, c->p);
    if (!(u.most > 0) || isinf(u.most)) return;        /* no logit is finite */
    find_bucket(c, p->top_p, &u);
    int64_t n = gather(c, &u), k = 0, ties = 0;
    qsort(c->scratch, (size_t)n, sizeof *c->scratch, larger_first);
    for (double sum = u.before; k < n && sum < p->top_p; k++) {
        ties = k > 0 && c->scratch[k] == c->scratch[k - 1] ? ties + 1 : 1;
        sum += u.most * (double)expf(c->scratch[k] - u.max);
    }
    float bound = k ? c->scratch[k - 1] : u.max - u.width * BUCKETS;      /* k = 0: rounding kept the sum below p */
    dan_candidates_at_least(c, bound);
    if (k) drop_ties(c, bound, ties);
}

const struct dan_sampler dan_sampler_top_p = {
    .name = "top_p", .doc = "keeps the most likely tokens that reach probability p together", .rank = 40, .on = on, .apply = apply,
};
