/* int8 levels b [N,K] with a scale per row by AVX-512 VNNI: 14 rows x 2 vectors of columns take 28 sums, two registers of weights and
 * one dword of x, which stays in front of both: a load for 64 multiply-adds of each row, 2 more for the weights. */
#include <stdbool.h>
#include <string.h>
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/store_half.h"

enum { MR = 14, NR = 32, OFFSET = 128, IN_DWORD = 4, DWORD_B = 4 };

static inline void put_levels(char *x, int rows, int64_t k, vf q)
{
    __m128i b = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(q));
    char *to = x + k * rows;
    if (rows == 1) {
        _mm_storeu_si128((__m128i *)to, b);
        return;
    }
    const int32_t d[4] = {_mm_extract_epi32(b, 0), _mm_extract_epi32(b, 1), _mm_extract_epi32(b, 2), _mm_extract_epi32(b, 3)};
    for (int j = 0; j < 4; j++) memcpy(to + 4 * j * rows, &d[j], 4);
}

static void pack_chunk(const int8_t *b, int64_t ldb, int cols, int64_t n, char *to)
{
    for (int i = 0; i < NR; i++) {
        int32_t d[16] = {0};
        if (i < cols) memcpy(d, b + i * ldb, (size_t)n);
        for (int j = 0; j < 16; j++) ((uint32_t *)to)[j * NR + i] = (uint32_t)d[j] ^ 0x80808080u;
    }
}

/* Sums are vectors of ints, not __m512i: else gcc 12 gives each a second register and spills half of them in the loop (a third of
 * the speed). */
typedef int32_t ints __attribute__((vector_size(64), aligned(64), may_alias));

static inline ints add_products(ints s, __m512i levels, __m512i q) { return (ints)_mm512_dpbusd_epi32((__m512i)s, levels, q); }

static inline __attribute__((always_inline)) void tile_of(int rows, int64_t dwords, const char *x, const char *b, int32_t *c)
{
    ints s[MR][2];
    for (int i = 0; i < rows; i++) s[i][0] = s[i][1] = (ints){0};
    for (; dwords > 0; dwords--, x += 4 * rows, b += 128) {
        __m512i w0 = _mm512_loadu_si512(b), w1 = _mm512_loadu_si512(b + 64);
        for (int i = 0; i < rows; i++) {
            __m512i q = _mm512_set1_epi32(((const int32_t *)x)[i]);
            s[i][0] = add_products(s[i][0], w0, q);
            s[i][1] = add_products(s[i][1], w1, q);
        }
    }
    for (int i = 0; i < rows; i++, c += NR) {
        *(ints *)c += s[i][0];
        *(ints *)(c + 16) += s[i][1];
    }
}

#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define CASE(n) case n: tile_of(n, dwords, x, b, c); break;
/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile(int rows, int64_t dwords, const char *x, const char *b, int32_t *c)
{
    switch (rows) { HEIGHTS(CASE) }
}

#include "kernel/simd/rows_body.h"

const struct dan_kernel dan_kernel_matmul_i8_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_i8_avx512", .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI, .rank = 60,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};

/* Activations with a static scale: the reference rounds them, too. */
const struct dan_kernel dan_kernel_matmul_i8_static_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_i8_static_avx512", .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI, .rank = 60,
    .accepts = accepts_fixed, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 1e-5f, .half = true,
};
