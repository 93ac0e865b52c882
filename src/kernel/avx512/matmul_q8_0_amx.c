/* Weights b in q8_0 [N,K] by AMX: one tdpbssd of 16 rows x 16 columns x 32 is one block, whose int32 sums
 * go through L1 to the vector unit for the scales: 1.5 x the speed of vpdpbusd.  Few rows
 * take the vpdpbusd tile, with the same bits: the sums of a block are exact in both. */
#include <stdbool.h>
#include <stdint.h>
#include "base/sys.h"
#include "kernel/simd/amx.h"

enum { MR = 16, NR = 16, KC = 1024, KI = KC, NC_THIN = NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 0, PACK_COST = 100, TAKES_BF16 = 0 };

static inline bool as_unsigned(int rows) { return rows <= 4; }

#include "kernel/simd/q8_0_avx512.h"

/* Tiles 0, 1: sums 16 x 16 int32; 4, 5: activations 16 x 32 int8; 6, 7: weights 8 x 16 x 4 int8. */
static inline void tile_begin(void)
{
    struct tile_config t = {.palette = 1};
    for (int i = 0; i < 8; i++) t.row_bytes[i] = i / 2 == 2 ? 32 : 64, t.rows[i] = i / 2 == 3 ? 8 : 16;
    tiles_config(&t);
}
static inline void tile_end(void) { _tile_release(); }

/* One block's sums to t; even and odd blocks take other tiles, so that they overlap. */
static inline void block_sums(bool odd, const char *a, const char *b, int32_t *t)
{
    if (odd) {
        _tile_zero(1);
        _tile_loadd(5, a, BLOCK);
        _tile_loadd(7, b, 64);
        _tile_dpbssd(1, 5, 7);
        _tile_stored(1, t, 64);
    } else {
        _tile_zero(0);
        _tile_loadd(4, a, BLOCK);
        _tile_loadd(6, b, 64);
        _tile_dpbssd(0, 4, 6);
        _tile_stored(0, t, 64);
    }
}

/* The sums of one block are scaled while the tiles work on the next (four ahead was not faster). */
static inline __attribute__((always_inline)) void tile_amx(int mr, int cols, int64_t k,
                                                           const char *a, const char *b, float *c, int64_t ldc, bool first)
{
    _Alignas(64) int32_t t[2][16 * 16];
    __m512 s[MR];
    __mmask16 keep = vf_mask(cols);
    int64_t n = k / BLOCK;
    for (int i = 0; i < mr; i++) s[i] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(keep, c + i * ldc);
    if (n > 0) block_sums(false, a, b, t[0]);
    for (int64_t l = 0; l < n; l++, a += A_STEP, b += B_STEP) {
        const float *scale = (const float *)(a + A_Q);
        const int32_t *sum = t[l % 2];
        __m512 ws = _mm512_load_ps(b + B_Q);
        if (l + 1 < n) block_sums(l % 2 == 0, a + A_STEP, b + B_STEP, t[(l + 1) % 2]);
        for (int i = 0; i < mr; i++)
            s[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum + 16 * i)), _mm512_mul_ps(ws, _mm512_set1_ps(scale[i])), s[i]);
    }
    for (int i = 0; i < mr; i++) _mm512_mask_storeu_ps(c + i * ldc, keep, s[i]);
}

#define FEW(X) X(1) X(2) X(3) X(4)
#define MANY(X) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16)
#define CASE_FEW(n) case n: tile_of(n, cols, k, a, b, c, ldc, first); break;
#define CASE_MANY(n) case n: tile_amx(n, cols, k, a, b, c, ldc, first); break;
/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile(int rows, int cols, int64_t k,
                                           const void *a, const void *b, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    switch (rows) { FEW(CASE_FEW) MANY(CASE_MANY) }
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_q8_0.h"

const struct dan_kernel dan_kernel_matmul_q8_0_amx = {
    .op = "matmul", .isa = "avx512", .name = "matmul_q8_0_amx",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI | DAN_CPU_AMX_INT8, .rank = 70,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 3e-2f, .half = true,
};
