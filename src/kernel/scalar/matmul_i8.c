/* int8 levels b [N,K] with a scale per row in plain C; see avx512/matmul_i8.c. */
#include "kernel/simd/gemm.h"
#include "kernel/simd/math_scalar.h"
#include "kernel/simd/store_half.h"

enum { MR = 4, NR = 8, OFFSET = 0, IN_DWORD = 2, DWORD_B = 4 };

static inline void put_levels(char *x, int rows, int64_t k, vf q) { ((int16_t *)x)[k / 2 * 2 * rows + k % 2] = (int16_t)q; }

static void pack_chunk(const int8_t *b, int64_t ldb, int cols, int64_t n, char *to)
{
    for (int i = 0; i < NR; i++)
        for (int j = 0; j < 64; j++) ((int16_t *)to)[(j / 2 * NR + i) * 2 + j % 2] = i < cols && j < n ? b[i * ldb + j] : 0;
}

static void tile(int rows, int64_t dwords, const char *x, const char *b, int32_t *c)
{
    for (int i = 0; i < rows; i++, c += NR) {
        const int16_t *q = (const int16_t *)x + 2 * i, *w = (const int16_t *)b;
        uint32_t s[NR];
        memcpy(s, c, sizeof s);
        for (int64_t d = 0; d < dwords; d++, q += 2 * rows, w += 2 * NR)
            for (int j = 0; j < NR; j++) s[j] += (uint32_t)(q[0] * w[2 * j] + q[1] * w[2 * j + 1]);
        memcpy(c, s, sizeof s);
    }
}

#include "kernel/simd/rows_body.h"

const struct dan_kernel dan_kernel_matmul_i8_scalar = {
    .op = "matmul", .isa = "scalar", .name = "matmul_i8_scalar", .rank = 15,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};

const struct dan_kernel dan_kernel_matmul_i8_static_scalar = {
    .op = "matmul", .isa = "scalar", .name = "matmul_i8_static_scalar", .rank = 15,
    .accepts = accepts_fixed, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 1e-5f, .half = true,
};
