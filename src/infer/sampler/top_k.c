/* Keeps the k largest logits and those equal to the k-th.  As transformers' TopKLogitsWarper. */
#include <string.h>
#include "infer/sampler.h"

static bool on(const struct dan_sampling *p) { return p->top_k > 0; }

/* The k-th largest of x[n], k from 1; x is reordered (Hoare's quickselect: O(n) where sorting 32k logits would take 2 ms). */
static float kth_largest(float *x, int64_t n, int64_t k)
{
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float pivot = x[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (x[i] > pivot) i++;
            while (x[j] < pivot) j--;
            if (i > j) break;
            float t = x[i];
            x[i++] = x[j];
            x[j--] = t;
        }
        if (k - 1 <= j) hi = j;
        else if (k - 1 >= i) lo = i;
        else break;
    }
    return x[k - 1];
}

static void apply(const struct dan_sampling *p, struct dan_candidates *c)
{
    if (p->top_k >= c->n) return;
    memcpy(c->scratch, c->logit, sizeof(float) * (size_t)c->n);
    dan_candidates_at_least(c, kth_largest(c->scratch, c->n, p->top_k));
}

const struct dan_sampler dan_sampler_top_k = {
    .name = "top_k", .doc = "keeps the k most likely tokens", .rank = 30, .on = on, .apply = apply,
};
