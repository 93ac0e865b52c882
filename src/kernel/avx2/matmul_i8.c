/* int8 levels b [N,K] with a scale per row; see avx512/matmul_i8.c.  Without VNNI both operands are widened to int16 and multiplied by
 * vpmaddwd, which is exact (vpmaddubsw would saturate for some signs, and qgemm_avx2.h's turn of signs costs as much); weights stay bytes in memory. */
#include <stdbool.h>
#include <string.h>
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/store_half.h"

enum { MR = 6, NR = 16, OFFSET = 0, IN_DWORD = 2, DWORD_B = 2 };
#define AVX2_TARGET
typedef int32_t ints __attribute__((vector_size(32), aligned(32), may_alias));

static inline void put_levels(char *x, int rows, int64_t k, vf q)
{
    __m256i d = _mm256_cvtps_epi32(q);
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
    const int32_t pair[4] = {_mm_extract_epi32(h, 0), _mm_extract_epi32(h, 1), _mm_extract_epi32(h, 2), _mm_extract_epi32(h, 3)};
    for (int j = 0; j < 4; j++) memcpy(x + (k / 2 + j) * rows * 4, &pair[j], 4);
}

static inline __m256i load_levels(const char *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }
static inline ints add_dword(ints s, __m256i levels, __m256i q) { return s + (ints)_mm256_madd_epi16(levels, q); }

#include "kernel/simd/rows_avx2.h"
#include "kernel/simd/rows_body.h"

const struct dan_kernel dan_kernel_matmul_i8_avx2 = {
    .op = "matmul", .isa = "avx2", .name = "matmul_i8_avx2", .needs = DAN_CPU_AVX2, .rank = 25,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};

const struct dan_kernel dan_kernel_matmul_i8_static_avx2 = {
    .op = "matmul", .isa = "avx2", .name = "matmul_i8_static_avx2", .needs = DAN_CPU_AVX2, .rank = 25,
    .accepts = accepts_fixed, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 1e-5f, .half = true,
};
