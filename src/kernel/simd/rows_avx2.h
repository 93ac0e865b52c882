/* What the AVX2 products of rows_body.h share: 6 rows x 2 vectors of columns take 12 sums, two registers of weights and one dword of x.
 * Before this the file defines IN_DWORD, DWORD_B and `ints add_dword(ints s, __m256i levels, __m256i q)`, and load_levels of 8 columns. */
#ifndef DAN_KERNEL_ROWS_AVX2_H
#define DAN_KERNEL_ROWS_AVX2_H

static inline void pack_chunk(const int8_t *b, int64_t ldb, int cols, int64_t n, char *to)
{
    for (int i = 0; i < NR; i++) {
        int8_t d[64] = {0};
        if (i < cols) memcpy(d, b + i * ldb, (size_t)n);
        for (int j = 0; j < 64; j++) to[(j / IN_DWORD * NR + i) * DWORD_B + j % IN_DWORD] = (char)(d[j] ^ (OFFSET ? -128 : 0));
    }
}

AVX2_TARGET static inline __attribute__((always_inline)) void tile_of(int rows, int64_t dwords, const char *x, const char *b, int32_t *c)
{
    ints s[MR][2];
    for (int i = 0; i < rows; i++) s[i][0] = s[i][1] = (ints){0};
    for (; dwords > 0; dwords--, x += 4 * rows, b += NR * DWORD_B) {
        __m256i w0 = load_levels(b), w1 = load_levels(b + 8 * DWORD_B);
        for (int i = 0; i < rows; i++) {
            __m256i q = _mm256_set1_epi32(((const int32_t *)x)[i]);
            s[i][0] = add_dword(s[i][0], w0, q);
            s[i][1] = add_dword(s[i][1], w1, q);
        }
    }
    for (int i = 0; i < rows; i++, c += NR) {
        *(ints *)c += s[i][0];
        *(ints *)(c + 8) += s[i][1];
    }
}

#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define CASE(n) case n: tile_of(n, dwords, x, b, c); break;
/* Not inlined: see matmul_f32.c. */
AVX2_TARGET static __attribute__((noinline)) void tile(int rows, int64_t dwords, const char *x, const char *b, int32_t *c)
{
    switch (rows) { HEIGHTS(CASE) }
}

#endif
