/* Weights b in q8_0 [N,K] in plain C. */
#include "core/half.h"
#include "kernel/simd/gemm.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/round_plain.h"
#include "kernel/simd/store_half.h"

enum { MR = 4, NR = 4, KC = 512, KI = KC, NC_THIN = NR, ROW_UNIT = 1, READS_A = 0, ROWS_INSIDE = 1, PACK_COST = 40, TAKES_BF16 = 0 };
enum { BLOCK = 32 };

/* A block of a panel: 4 x 32 int16, 4 scales. */
struct block { int16_t q[4][BLOCK]; float scale[4]; };
struct source { uint16_t d; int8_t q[BLOCK]; };

static inline size_t panel_a_bytes(int64_t k) { return ((size_t)(k / BLOCK) * sizeof(struct block) + 63) / 64 * 64; }
static inline size_t panel_b_bytes(int64_t k) { return panel_a_bytes(k); }
static inline size_t chunk_a_bytes(int rows) { (void)rows; return sizeof(struct block); }
static inline void tile_begin(void) {}
static inline void tile_end(void) {}

/* Group b of a row, widened; its scale. */
static inline float quantise_block(const struct dan_gemm *g, int64_t row, int64_t b, int16_t *q)
{
    const char *x = (const char *)g->a + row * g->lda + b * (g->a_rounded ? DAN_ROUNDED_GROUP_BYTES : BLOCK * 4);
    char levels[BLOCK];
    int32_t sum[2];
    float scale = g->a_rounded ? dan_rounded_group_of(x).scale : round_values(x, false, levels, sum);
    const char *from = g->a_rounded ? x : levels;
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)from[i];
    return scale;
}

static void pack_a(void *dst, const struct dan_gemm *g, int64_t row, int rows, int64_t k0, int64_t k)
{
    struct block *d = dst;
    for (int64_t b = 0; b < k; b += BLOCK, d++)
        for (int i = 0; i < rows; i++) d->scale[i] = quantise_block(g, row + i, (k0 + b) / BLOCK, d->q[i]);
}

static void pack_b(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k)
{
    for (int i = 0; i < NR; i++) {
        struct block *d = dst;
        const struct source *s = (const struct source *)((const char *)g->b + (col + i) * g->ldb) + k0 / BLOCK;
        for (int64_t b = 0; b < k; b += BLOCK, d++, s++) {
            d->scale[i] = i < cols ? dan_f16_to_f32(s->d) : 0;
            for (int j = 0; j < BLOCK; j++) d->q[i][j] = i < cols ? s->q[j] : 0;
        }
    }
}

static inline int32_t dot(const int16_t *x, const int16_t *y)
{
    int32_t t = 0;
    for (int i = 0; i < BLOCK; i++) t += x[i] * y[i];
    return t;
}

/* The f32 sum runs over all blocks of K in order: it goes on from c. */
static void tile(int rows, int cols, int64_t k, const void *pa, const void *pb, float *c, int64_t ldc, bool first, struct beside *x)
{
    (void)x;
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            const struct block *a = pa, *b = pb;
            float s = first ? 0 : c[i * ldc + j];
            for (int64_t l = 0; l < k; l += BLOCK, a++, b++) s += (float)dot(a->q[i], b->q[j]) * (b->scale[j] * a->scale[i]);
            c[i * ldc + j] = s;
        }
    }
}

static dan_gemm_direct_fn *const direct = NULL;

#include "kernel/simd/gemm_body.h"
#include "kernel/simd/matmul_q8_0.h"

const struct dan_kernel dan_kernel_matmul_q8_0_scalar = {
    .op = "matmul", .isa = "scalar", .name = "matmul_q8_0_scalar",
    .rank = 15,
    .accepts = accepts, .workspace = workspace, .run = run, .rtol = 3e-2f, .half = true,
};
