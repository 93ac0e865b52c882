/* Weights b in q8_0 [N,K] by AVX-512 VNNI: a panel of 16 columns, 14 rows; a block of a panel is 8
 * registers of weights, each row takes 8 vpdpbusd and 3 instructions for the scales. */
#include <stdbool.h>
#include <stdint.h>
#include "base/sys.h"

enum { MR = 14, NR = 16, KC = 1024, KI = KC, NC_THIN = NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 0, PACK_COST = 40, TAKES_BF16 = 0 };

static inline bool as_unsigned(int rows) { return rows > 0; }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

#include "kernel/simd/q8_0_avx512.h"

#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define CASE(n) case n: tile_of(n, cols, k, a, b, c, ldc, first); break;
/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    switch (rows) { HEIGHTS(CASE) }
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_q8_0.h"

const struct dan_kernel dan_kernel_matmul_q8_0_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_q8_0_avx512",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI, .rank = 60,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 3e-2f, .half = true,
};
