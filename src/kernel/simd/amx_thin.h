/* Up to 32 rows times weights stored as bf16 [N,K], on AMX tiles, without packing the weights: decode.
 *
 * The factors change places: c^T = b a^T.  16 rows of the weights, 32 of k, are a tile as they lie in memory;
 * the few rows of a are the other factor, in pairs of k.  Every element is the same chain of the same
 * instruction with its two factors exchanged, so the bits are those of the packed
 * product (gemm.h's promise).  Weights are read at the speed of plain loads: 15.6 GB/s from memory where
 * loads reach 13.5, 30 from L3 (30), 107 from L2 (one core of a virtual machine with AMX); prefetching by hand
 * or two blocks of weights at a time made it slower.
 *
 * Include after gemm_body.h. */
#ifndef DAN_KERNEL_AMX_THIN_H
#define DAN_KERNEL_AMX_THIN_H
#include "kernel/simd/amx.h"
#include "kernel/simd/pack_avx512.h"

enum { FEW_ROWS = 32, FEW_TILE = 16 };

/* Rows of a are two tiles, the second may be empty: rows [0, m0) and [m0, m0 + m1). */
struct few { const struct dan_gemm *g; int m0, m1; const float *x0, *x1; };

static inline bool few_fits(const struct dan_gemm *g) { return g->b_bf16 && g->tb && !g->ta && !g->add && g->m <= FEW_ROWS; }

static inline int64_t few_k(const struct dan_gemm *g) { return (g->k + 31) / 32 * 32; }

/* Packed rows of a: [K / 2 pairs][m0], then [K / 2 pairs][m1]. */
static inline size_t few_area(const struct dan_gemm *g) { return (size_t)((few_k(g) * least(g->m, FEW_ROWS) * 2 + 63) / 64 * 64); }
static inline size_t few_bytes(const struct dan_gemm *g, int nth) { return few_area(g) * (size_t)nth; }

static void few_pack(float *dst, const struct dan_gemm *g, int64_t row, int rows)
{
    int64_t pairs = (g->k + 1) / 2;
    const char *p = (const char *)g->a + row * g->lda;
    if (rows > 1) pack_pairs_transposed(dst, rows, rows, p, g->lda, rows, g->k, g->a_bf16);
    if (rows > 1) memset(dst + pairs * rows, 0, (size_t)((few_k(g) / 2 - pairs) * rows) * sizeof *dst);
    for (int64_t i = 0; i < g->k && rows == 1; i += 32)
        _mm512_storeu_ps(dst + i / 2, g->a_bf16 ? bf16_stored(p + 2 * i, g->k - i) : bf16_from((const float *)p + i, g->k - i));
}

/* Tiles: 0, 1 sums [cols][rows of a]; 4 weights [cols][32]; 6, 7 rows of a [16 pairs][rows]. */
static void few_config(const struct few *f, int cols)
{
    struct tile_config t = {.palette = 1};
    const int rows[] = {f->m0, f->m1};
    for (int i = 0; i < 2 && rows[i]; i++) {
        t.rows[i] = (uint8_t)cols;
        t.rows[6 + i] = 16;
        t.row_bytes[i] = t.row_bytes[6 + i] = (uint16_t)(rows[i] * 4);
    }
    t.rows[4] = (uint8_t)cols;
    t.row_bytes[4] = 64;
    tiles_config(&t);
}

/* The sums of `cols` columns, whose weights begin at w. */
static inline __attribute__((always_inline)) void few_sums(bool two, const struct few *f, const char *w, int cols)
{
    _Alignas(64) char part[FEW_TILE * 64];
    const float *x0 = f->x0, *x1 = f->x1;
    int64_t ld = f->g->ldb, n = f->g->k;
    _tile_zero(0);
    if (two) _tile_zero(1);
    for (int64_t k = 0; k < n; k += 32, w += 64, x0 += 16 * f->m0, x1 += 16 * f->m1) {
        if (n - k < 32) {                              /* what follows the row in memory may be anything */
            for (int i = 0; i < cols; i++) _mm512_store_ps((float *)(part + i * 64), bf16_stored(w + i * ld, n - k));
            w = part;
            ld = 64;
        }
        _tile_loadd(4, w, ld);
        _tile_loadd(6, x0, f->m0 * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (!two) continue;
        _tile_loadd(7, x1, f->m1 * 4);
        _tile_dpbf16ps(1, 4, 7);
    }
}

/* d[rows][FEW_TILE] = s^T; s [cols][rows] */
static inline void few_turn(float *d, const float *s, int rows)
{
    __m512 r[16];
    if (rows == 1) r[0] = _mm512_load_ps(s);
    for (int i = 0; i < 16 && rows > 1; i++) r[i] = _mm512_maskz_loadu_ps(vf_mask(rows), s + i * rows);
    if (rows > 1) transpose16(r);
    for (int i = 0; i < rows; i++) _mm512_store_ps(d + i * FEW_TILE, r[i]);
}

static inline __attribute__((always_inline)) void few_columns(bool two, const struct few *f, int64_t col, int cols)
{
    _Alignas(64) float s[FEW_TILE * FEW_TILE] = {0}, d[FEW_ROWS * FEW_TILE];
    const struct dan_gemm *g = f->g;
    int rows = f->m0 + f->m1;
    few_sums(two, f, (const char *)g->b + col * g->ldb, cols);
    _tile_stored(0, s, f->m0 * 4);
    few_turn(d, s, f->m0);
    if (two) _tile_stored(1, s, f->m1 * 4);
    if (two) few_turn(d + f->m0 * FEW_TILE, s, f->m1);
    if (has_epilogue(g)) finish_rows(g, &(struct done){d, FEW_TILE, 0, col, rows, cols}, rows);
    for (int i = 0; i < rows && !has_epilogue(g); i++)
        _mm512_mask_storeu_ps((float *)g->c + i * g->ldc + col, vf_mask(cols), _mm512_load_ps(d + i * FEW_TILE));
}

static __attribute__((noinline)) void few_range(const struct few *f, int64_t lo, int64_t hi)
{
    int64_t col = lo;
    few_config(f, FEW_TILE);
    for (; col + FEW_TILE <= hi && f->m1; col += FEW_TILE) few_columns(true, f, col, FEW_TILE);
    for (; col + FEW_TILE <= hi; col += FEW_TILE) few_columns(false, f, col, FEW_TILE);
    if (col < hi) few_config(f, (int)(hi - col));
    if (col < hi && f->m1) few_columns(true, f, col, (int)(hi - col));
    else if (col < hi) few_columns(false, f, col, (int)(hi - col));
    _tile_release();
}

static void few_run(const struct dan_gemm *g, void *ws, int ith, int nth)
{
    int64_t units = parts(g->n, FEW_TILE), lo = units * ith / nth * FEW_TILE, hi = least(units * (ith + 1) / nth * FEW_TILE, g->n);
    float *x = (float *)((char *)ws + few_area(g) * (size_t)ith);
    struct few f = {.g = g, .m0 = (int)least(g->m, FEW_TILE), .m1 = (int)(g->m - least(g->m, FEW_TILE)), .x0 = x};
    f.x1 = x + few_k(g) / 2 * f.m0;
    if (lo >= hi || g->m == 0) return;
    few_pack(x, g, 0, f.m0);
    if (f.m1) few_pack(x + few_k(g) / 2 * f.m0, g, f.m0, f.m1);
    few_range(&f, lo, hi);
}

#endif
