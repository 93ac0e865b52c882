/* Peak of multiply-adds on vectors: 12 independent chains cover two units of 4 or 5 cycles.  The chains run to 1. */
#include "kernel/probe.h"

enum { CHAINS = 12 };

static float spin(int64_t rounds)
{
    vf s[CHAINS], keep = vf_set(0.5f);
    for (int i = 0; i < CHAINS; i++) s[i] = vf_set((float)i);
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) s[i] = vf_fma(s[i], keep, keep);
    for (int i = 1; i < CHAINS; i++) s[0] = vf_add(s[0], s[i]);
    return vf_sum(s[0]);
}
