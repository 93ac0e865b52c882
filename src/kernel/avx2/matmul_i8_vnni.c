/* int8 levels b [N,K] with a scale per row by AVX-VNNI, the 256-bit vpdpbusd of CPUs without AVX-512; see avx512/matmul_i8.c. */
#include <stdbool.h>
#include <string.h>
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/store_half.h"

enum { MR = 6, NR = 16, OFFSET = 128, IN_DWORD = 4, DWORD_B = 4 };
#define AVX2_TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
/* Not __m256i: see avx512/matmul_i8.c. */
typedef int32_t ints __attribute__((vector_size(32), aligned(32), may_alias));

static inline void put_levels(char *x, int rows, int64_t k, vf q)
{
    int32_t d[2];
    vf_store_s8(d, q);
    for (int j = 0; j < 2; j++) memcpy(x + (k / 4 + j) * rows * 4, &d[j], 4);
}

AVX2_TARGET static inline __m256i load_levels(const char *p) { return _mm256_loadu_si256((const __m256i *)p); }
AVX2_TARGET static inline ints add_dword(ints s, __m256i levels, __m256i q) { return (ints)_mm256_dpbusd_avx_epi32((__m256i)s, levels, q); }

#include "kernel/simd/rows_avx2.h"
#include "kernel/simd/rows_body.h"

const struct dan_kernel dan_kernel_matmul_i8_avx_vnni = {
    .op = "matmul", .isa = "avx2", .name = "matmul_i8_avx_vnni", .needs = DAN_CPU_AVX2 | DAN_CPU_AVX_VNNI, .rank = 28,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};

const struct dan_kernel dan_kernel_matmul_i8_static_avx_vnni = {
    .op = "matmul", .isa = "avx2", .name = "matmul_i8_static_avx_vnni", .needs = DAN_CPU_AVX2 | DAN_CPU_AVX_VNNI, .rank = 28,
    .accepts = accepts_fixed, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 1e-5f, .half = true,
};
