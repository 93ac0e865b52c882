/* Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a
 * counter-based generator, so that the k-th number of stream s under a seed never depends on
 * threads, batch neighbours or restarts. */
#ifndef DAN_BASE_RNG_H
#define DAN_BASE_RNG_H
#include <stdint.h>

static inline void dan_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < 10; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}

/* [0, 1) with 24 bits: exact in float */
static inline float dan_u01(uint32_t u) { return (float)(u >> 8) * (1.0f / 16777216.0f); }

/* A sequential view of one stream. */
struct dan_rng { uint64_t seed, stream, counter; };
uint32_t dan_rng_u32(struct dan_rng *r);
uint64_t dan_rng_below(struct dan_rng *r, uint64_t n);      /* uniform in [0, n), unbiased; n > 0 */
double   dan_rng_uniform(struct dan_rng *r);                 /* [0, 1), 53 bits */
double   dan_rng_normal(struct dan_rng *r);                  /* Box-Muller; libm only, so equal on one machine type */

#endif
