/* bf16 peak of vdpbf16ps: 32 multiply-adds an instruction. */
#include <immintrin.h>
#include "base/sys.h"
#include "kernel/probe.h"

enum { CHAINS = 12 };

static float spin(int64_t rounds)
{
    __m512 s[CHAINS];
    __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
    for (int i = 0; i < CHAINS; i++) s[i] = _mm512_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) s[i] = _mm512_dpbf16_ps(s[i], x, x);
    for (int i = 1; i < CHAINS; i++) s[0] = _mm512_add_ps(s[0], s[i]);
    return _mm512_reduce_add_ps(s[0]);
}

const struct dan_probe dan_probe_bf16_avx512 = {
    .name = "vdpbf16ps", .isa = "avx512", .kind = DAN_PROBE_BF16, .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16, .rank = 30,
    .ops = 64.0 * CHAINS, .spin = spin,
};
