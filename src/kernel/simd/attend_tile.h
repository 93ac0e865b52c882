/* What the f32 kernels of attend and attend_grad share: small products on packed blocks.  Keys come in blocks of
 * BLOCK counted from the base of the row's sequence.  Vectors come from block_ISA.h. */
#ifndef DAN_KERNEL_ATTEND_TILE_H
#define DAN_KERNEL_ATTEND_TILE_H
#include <math.h>
#include "kernel/simd/attend_keys.h"

/* From the body: TILE rows, BLOCK keys. */


/* A factor of a small product: element (i, k) at p[i * row + k * step]. */
struct left { const float *p; int64_t row, step; };

/* c[rows][vecs * VF] (+)= a[rows][n] b[n][..]: rows, vecs and add are constants where this is inlined.
 * Sums are made by themselves and added at the end: errors grow with the block, not with the document.
 * tail > 0: only so many columns of the only vector of c exist. */
INLINE void tile_of(int rows, int vecs, bool add, struct left a, const float *b, int64_t ldb, float *c, int64_t ldc,
                    int64_t n, int64_t tail)
{
    vf s[TILE_ROWS][TILE_VECS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++) s[i][j] = vf_set(0);
    for (int64_t k = 0; k < n; k++, b += ldb) {
        vf y[TILE_VECS];
        for (int j = 0; j < vecs; j++) y[j] = vf_load(b + j * VF);
        for (int i = 0; i < rows; i++) {
            vf x = vf_set(a.p[i * a.row + k * a.step]);
            for (int j = 0; j < vecs; j++) s[i][j] = vf_fma(x, y[j], s[i][j]);
        }
    }
    UNROLL
    for (int i = 0; i < rows && add; i++)
        UNROLL
        for (int j = 0; j < vecs; j++) s[i][j] = vf_add(s[i][j], tail ? vf_load_n(c + i * ldc, tail) : vf_load(c + i * ldc + j * VF));
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < vecs; j++)
            if (tail) vf_store_n(c + i * ldc, s[i][j], tail);
            else vf_store(c + i * ldc + j * VF, s[i][j]);
}

/* c[rows][cols] (+)= a[rows][n] b[n][cols].  b's rows are readable to the next multiple of VF. */
INLINE void rows_of(int rows, bool add, struct left a, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t n, int64_t cols)
{
    int64_t j = 0;
    for (; j + TILE_VECS * VF <= cols; j += TILE_VECS * VF) tile_of(rows, TILE_VECS, add, a, b + j, ldb, c + j, ldc, n, 0);
    if (TILE_VECS == 4 && j + 2 * VF <= cols) {
        tile_of(rows, 2, add, a, b + j, ldb, c + j, ldc, n, 0);
        j += 2 * VF;
    }
    if (j + VF <= cols) {
        tile_of(rows, 1, add, a, b + j, ldb, c + j, ldc, n, 0);
        j += VF;
    }
    if (j < cols) tile_of(rows, 1, add, a, b + j, ldb, c + j, ldc, n, cols - j);
}

/* rows <= TILE_ROWS */
INLINE void any_rows(int64_t rows, bool add, struct left a, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t n, int64_t cols)
{
    if (rows == TILE_ROWS) {
        rows_of(TILE_ROWS, add, a, b, ldb, c, ldc, n, cols);
        return;
    }
    if (rows >= 4) {
        rows_of(4, add, a, b, ldb, c, ldc, n, cols);
        rows -= 4;
        a.p += 4 * a.row;
        c += 4 * ldc;
    }
    for (; rows > 0; rows--, a.p += a.row, c += ldc) rows_of(1, add, a, b, ldb, c, ldc, n, cols);
}

/* Groups of TILE_ROWS rows: which keys of a block, or which other rows, group g meets. */
enum { PANEL = TILE_VECS * VF, GROUPS = ((TILE > BLOCK ? TILE : BLOCK) + TILE_ROWS - 1) / TILE_ROWS };

/* c[rows][..] = a[rows][n] b[n][..] in the columns that a group meets (to whole vectors), which lie in one block.  Panels of
 * columns are outermost: a panel of b stays in L1 while all rows pass. */
static void set_products(int64_t rows, const struct keys *meets, struct left a, const float *b, int64_t ldb, float *c, int64_t ldc,
                         int64_t n)
{
    for (int64_t j = 0; j < BLOCK; j += PANEL)
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
            struct keys k = meets[i / TILE_ROWS];
            int64_t lo = most(j, k.lo / VF * VF), hi = least(j + PANEL, pad(k.hi));
            struct left ai = {a.p + i * a.row, a.row, a.step};
            if (lo < hi) any_rows(least(TILE_ROWS, rows - i), false, ai, b + lo, ldb, c + i * ldc + lo, ldc, n, hi - lo);
        }
}

/* c[rows][cols] += a[rows][k] b[k][cols] over the k that a group meets. */
static void add_products(int64_t rows, const struct keys *meets, struct left a, const float *b, int64_t ldb, float *c, int64_t ldc,
                         int64_t cols)
{
    for (int64_t j = 0; j < cols; j += PANEL)
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
            struct keys k = meets[i / TILE_ROWS];
            struct left ai = {a.p + i * a.row + k.lo * a.step, a.row, a.step};
            int64_t n = least(TILE_ROWS, rows - i), width = least(PANEL, cols - j);
            if (!no_keys(k)) any_rows(n, true, ai, b + k.lo * ldb + j, ldb, c + i * ldc + j, ldc, k.hi - k.lo, width);
        }
}

/* each[n]: keys that rows see of the block at b; by group what any of its rows sees. */
static inline void meet(const struct keys *rows, int64_t n, int64_t b, struct keys *each, struct keys *groups)
{
    for (int64_t i = 0; i < n; i++) {
        each[i] = in_block(rows[i], b, BLOCK);
        groups[i / TILE_ROWS] = i % TILE_ROWS ? join(groups[i / TILE_ROWS], each[i]) : each[i];
    }
}

/* dst[d][BLOCK] = src[n][d] transposed; columns from n to the next multiple of VF are zero. */
static void pack_transposed(float *dst, const float *src, int64_t ld, int64_t n, int64_t d)
{
    int64_t j = 0;
    for (; j + VF <= n; j += VF) {
        int64_t i = 0;
        for (; i + VF <= d; i += VF) vf_transpose(src + j * ld + i, ld, dst + i * BLOCK + j, BLOCK);
        for (; i < d; i++)
            for (int64_t r = 0; r < VF; r++) dst[i * BLOCK + j + r] = src[(j + r) * ld + i];
    }
    if (j == n) return;
    for (int64_t i = 0; i < d; i++) {
        vf_store(dst + i * BLOCK + j, vf_set(0));
        for (int64_t r = j; r < n; r++) dst[i * BLOCK + r] = src[r * ld + i];
    }
}

/* dst[n][pad(d)] = src[n][d], zeros behind */
static void pack_rows(float *dst, const float *src, int64_t ld, int64_t n, int64_t d)
{
    for (int64_t r = 0; r < n; r++, dst += pad(d), src += ld)
        for (int64_t i = 0; i < d; i += VF) vf_store(dst + i, vf_load_n(src + i, d - i));
}

#endif
