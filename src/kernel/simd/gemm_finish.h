/* The end of a product's tile: bias, activation, residual or gate, and the type of c.  Before this the file defines NR and store_bf16
 * and includes math_ISA.h. */
#ifndef DAN_KERNEL_GEMM_FINISH_H
#define DAN_KERNEL_GEMM_FINISH_H
#include "kernel/simd/gemm.h"
#include "kernel/simd/half.h"
#include "kernel/simd/vec_slope.h"

static inline void store_any(void *p, int64_t i, bool bf16, vf x, int64_t n)
{
    if (bf16) store_bf16((char *)p + 2 * i, x, n);
    else vf_store_n((float *)p + i, x, n);
}

/* Sum (+ bias) of element [row, col] and those right of it to c.  The last four are constants where that is common:
 * half: c is bf16; more: there is anything but a bias. */
static inline __attribute__((always_inline)) void finish(const struct dan_gemm *g, vf x, int64_t row, int64_t col, int n, bool half,
                                                         bool more, int act, int gate)
{
    if (more) {
        int64_t from = row * g->ldres + col;
        if (g->pre) store_any(g->pre, row * g->ldpre + col, half, x, n);
        if (act) x = vf_act(act, x);
        if (gate) x = vf_mul(x, vf_slope(gate, load_row(g->res_bf16, g->res, from, n)));
        else if (g->res) x = vf_add(x, load_row(g->res_bf16, g->res, from, n));
    }
    store_any(g->c, row * g->ldc + col, half, x, n);
}

/* The first `rows` rows, NR columns. */
static inline __attribute__((always_inline)) void finish_full(const struct dan_gemm *g, const struct done *d, int rows, bool half,
                                                              bool more, int act, int gate)
{
    const float *s = d->s;
    vf bias[NR / VF], scale[NR / VF];
    for (int j = 0; j < NR / VF; j++) {
        bias[j] = g->bias ? vf_load(g->bias + d->col + j * VF) : vf_set(0.f);
        scale[j] = g->scale ? vf_load(g->scale + d->col + j * VF) : vf_set(1.f);
    }
    for (int i = 0; i < rows; i++, s += d->ld)
        for (int j = 0; j < NR / VF; j++)
            finish(g, vf_add(vf_mul(vf_load(s + j * VF), scale[j]), bias[j]), d->row + i, d->col + j * VF, VF, half, more, act, gate);
}

static void finish_edge(const struct dan_gemm *g, const struct done *d, int rows)
{
    const float *s = d->s;
    for (int i = 0; i < rows; i++, s += d->ld)
        for (int j = 0; j < d->cols; j += VF) {
            vf bias = g->bias ? vf_load_n(g->bias + d->col + j, d->cols - j) : vf_set(0.f);
            vf scale = g->scale ? vf_load_n(g->scale + d->col + j, d->cols - j) : vf_set(1.f);
            finish(g, vf_add(vf_mul(vf_load_n(s + j, d->cols - j), scale), bias), d->row + i, d->col + j, d->cols - j, g->c_bf16, true, g->act, g->gate);
        }
}

/* At most `most_rows` of what is left of a tile. */
static __attribute__((noinline)) void finish_rows(const struct dan_gemm *g, struct done *d, int most_rows)
{
    int n = d->rows < most_rows ? d->rows : most_rows;
    bool half = g->c_bf16;
    if (d->cols != NR) finish_edge(g, d, n);
    else if (g->act == DAN_ACT_GELU_TANH) finish_full(g, d, n, half, true, DAN_ACT_GELU_TANH, 0);
    else if (g->gate == DAN_ACT_GELU_TANH) finish_full(g, d, n, half, true, 0, DAN_ACT_GELU_TANH);
    else if (g->act || g->gate) finish_full(g, d, n, half, true, g->act, g->gate);
    else if (g->res || g->pre) finish_full(g, d, n, half, true, 0, 0);
    else if (half) finish_full(g, d, n, true, false, 0, 0);
    else finish_full(g, d, n, false, false, 0, 0);
    d->s += n * d->ld;
    d->row += n;
    d->rows -= n;
}

static inline void finish_tile(const struct dan_gemm *g, struct done *d)
{
    if (d->rows > 0) finish_rows(g, d, d->rows);
}

/* What the epilogue of a tile will read: rows far apart, which the hardware does not foresee.  Asked for before the tile is
 * multiplied: products with a gate take 0.6 of the time. */
static inline void fetch_residual(const struct dan_gemm *g, int64_t row, int rows, int64_t col)
{
    int64_t size = g->res_bf16 ? 2 : 4;
    for (int i = 0; i < rows; i++)
        for (int64_t j = 0; j < NR * size; j += 64) __builtin_prefetch((const char *)g->res + ((row + i) * g->ldres + col) * size + j);
}

#endif
