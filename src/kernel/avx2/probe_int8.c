/* int8 peak on avx2: pairs by vpmaddubsw, pairs of pairs by vpmaddwd, then the sum. */
#include <immintrin.h>
#include "base/sys.h"
#include "kernel/probe.h"

enum { CHAINS = 8 };

static float spin(int64_t rounds)
{
    __m256i s[CHAINS], x = _mm256_set1_epi8(1), y = _mm256_set1_epi8(2), one = _mm256_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) s[i] = _mm256_setzero_si256();
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" : "+x"(y));       /* or the products move out of the loop */
            s[i] = _mm256_add_epi32(s[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), one));
        }
    for (int i = 1; i < CHAINS; i++) s[0] = _mm256_add_epi32(s[0], s[i]);
    return (float)_mm256_extract_epi32(s[0], 0);
}

const struct dan_probe dan_probe_int8_avx2 = {
    .name = "maddubs_avx2", .isa = "avx2", .kind = DAN_PROBE_INT8, .needs = DAN_CPU_AVX2, .rank = 20, .ops = 64.0 * CHAINS, .spin = spin,
};
