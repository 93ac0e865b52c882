#include "align/shuffle.h"
#include "base/rng.h"

enum { STREAM = 0x5f7 };

/* Fisher-Yates by Philox: a function of seed, epoch and n. */
static void shuffle(int64_t *order, int64_t n, uint64_t seed, int64_t epoch, uint64_t which)
{
    struct dan_rng r = {.seed = seed, .stream = ((uint64_t)STREAM + which) << 40 | (uint64_t)epoch};
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t k = (int64_t)dan_rng_below(&r, (uint64_t)i + 1), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
}

int64_t dan_shuffled(int64_t *order, int64_t n, int64_t *epoch, uint64_t seed, uint64_t which, int64_t k)
{
    if (k / n != *epoch) shuffle(order, n, seed, *epoch = k / n, which);
    return order[k % n];
}
