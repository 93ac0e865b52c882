#include "base/rng.h"
#include <math.h>

/* The counter counts 32-bit numbers, four to a Philox block: the state is three integers that a
 * checkpoint can store, at the price of computing each block four times. */
uint32_t dan_rng_u32(struct dan_rng *r)
{
    uint32_t out[4];
    dan_philox(r->seed, r->stream, r->counter >> 2, out);
    return out[r->counter++ & 3];
}

static uint64_t rng_u64(struct dan_rng *r)
{
    uint64_t low = dan_rng_u32(r);
    return low | (uint64_t)dan_rng_u32(r) << 32;
}

uint64_t dan_rng_below(struct dan_rng *r, uint64_t n)
{
    uint64_t reject = -n % n, u;                   /* 2^64 mod n: what is left is a multiple of n */
    do u = rng_u64(r); while (u < reject);
    return u % n;
}

double dan_rng_uniform(struct dan_rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; }

double dan_rng_normal(struct dan_rng *r)
{
    const double two_pi = 6.283185307179586477;
    double u = 1.0 - dan_rng_uniform(r);           /* (0, 1]: log is finite */
    return sqrt(-2.0 * log(u)) * cos(two_pi * dan_rng_uniform(r));
}
