/* f32 matrix product in plain C: tiles of 4 x 8 that compilers turn into the vectors every target has
 * (SSE2, NEON).  Also serves prec = bf16: operands are rounded while they are packed. */
#include "kernel/simd/gemm.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/store_half.h"

enum { MR = 4, NR = 8, KC = 256, KI = KC, NC_THIN = 8 * NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 1, PACK_COST = 16, TAKES_BF16 = 0 };

static inline size_t panel_a_bytes(int64_t k) { return (size_t)(k * MR * 4 + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return (size_t)(k * NR * 4 + 63) / 64 * 64; }
static inline size_t chunk_a_bytes(int rows) { (void)rows; return MR * CHUNK * 4; }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

/* To bf16, nearest even, still as f32; NaN stays NaN. */
static inline float round_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    float y;
    memcpy(&y, &u, sizeof y);
    return x == x ? y : x;
}

/* dst[k][width] = x[n][k] or, t, x[k][n] for n < rows, zeros up to width */
static void pack(float *dst, int width, const void *x, int64_t ld, bool t, int64_t row, int rows, int64_t k0, int64_t k, bool bf16)
{
    for (int i = 0; i < width; i++) {
        const char *p = (const char *)x + (t ? k0 * ld + (row + i) * 4 : (row + i) * ld + k0 * 4);
        int64_t step = t ? ld : 4;
        for (int64_t j = 0; j < k; j++, p += i < rows ? step : 0) {
            float v = i < rows ? *(const float *)p : 0;
            dst[j * width + i] = bf16 ? round_bf16(v) : v;
        }
    }
}

static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    pack(dst, MR, g->a, g->lda, g->ta, row, rows, k0, k, g->bf16);
}

static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    pack(dst, NR, g->b, g->ldb, !g->tb, col, cols, k0, k, g->bf16);
}

static void tile(int rows, int cols, int64_t k, const void *pa, const void *pb, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    const float *a = pa, *b = pb;
    float s[MR][NR] = {{0}};
    for (; k > 0; k--, a += MR, b += NR)
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < NR; j++) s[i][j] += a[i] * b[j];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) c[i * ldc + j] = first ? s[i][j] : c[i * ldc + j] + s[i][j];
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_float.h"

void dan_gemm_f32_scalar(const struct dan_gemm *g, void *ws, int ith, int nth) { gemm_run(g, ws, ith, nth); }
size_t dan_gemm_f32_scalar_bytes(int64_t m, int64_t n, int64_t k, int nth) { return plain_bytes(m, n, k, nth); }

const struct dan_kernel dan_kernel_matmul_f32_scalar = {
    .op = "matmul", .isa = "scalar", .name = "matmul_f32_scalar",
    .rank = 10,
    .accepts = accepts_b, .workspace = workspace, .run = run, .rtol = 1e-5f, .half = true,
};

/* The same with two outputs: before and after the activation. */
const struct dan_kernel dan_kernel_linear_act_f32_scalar = {
    .op = "linear_act", .isa = "scalar", .name = "linear_act_f32_scalar",
    .rank = 10,
    .accepts = accepts_b, .workspace = workspace, .run = run, .rtol = 1e-5f, .half = true,
};
