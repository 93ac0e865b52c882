/* int8 peak of vpdpbusd: 64 multiply-adds an instruction. */
#include <immintrin.h>
#include "base/sys.h"
#include "kernel/probe.h"

enum { CHAINS = 12 };

static float spin(int64_t rounds)
{
    __m512i s[CHAINS], x = _mm512_set1_epi8(1), y = _mm512_set1_epi8(2);
    for (int i = 0; i < CHAINS; i++) s[i] = _mm512_set1_epi32(i);
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) s[i] = _mm512_dpbusd_epi32(s[i], x, y);
    for (int i = 1; i < CHAINS; i++) s[0] = _mm512_add_epi32(s[0], s[i]);
    return (float)_mm512_reduce_add_epi32(s[0]);
}

const struct dan_probe dan_probe_int8_avx512 = {
    .name = "vpdpbusd", .isa = "avx512", .kind = DAN_PROBE_INT8, .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI, .rank = 30,
    .ops = 128.0 * CHAINS, .spin = spin,
};
