/* c[M,N] (+)= op(a)[M,K] op(b)[K,N], then the epilogue of the op matmul.  The matrix product inside
 * matmul_* and head_ce_*; each ISA instantiates gemm_body.h once.
 *
 * Promise (R9, and decode == prefill): the bits of c[m][n] depend on row m of op(a) and column n of
 * op(b) only, not on M, N, nth or alignment.  Every element is a sum over blocks of KC in order, each
 * block a sum over k in order; KC is fixed per kernel. */
#ifndef DAN_KERNEL_GEMM_H
#define DAN_KERNEL_GEMM_H
#include <string.h>
#include "core/args.h"
#include "op/attrs.h"
#include "kernel/simd/unroll.h"

enum { CHUNK = 32 };                           /* columns of a, rows of b that packing may take at a time; KC is a multiple */

struct dan_gemm {
    int64_t m, n, k;
    const void *a, *b;                         /* a [M,K] or, ta, [K,M]; b [K,N] or, tb, [N,K] */
    int64_t lda, ldb;                          /* bytes from row to row */
    bool ta, tb;
    bool a_bf16, b_bf16;                       /* stored as bf16; else f32 */
    bool a_rounded;                            /* rows rounded to int8 (core/rounded.h) */
    const struct dan_dtype *b_type;            /* another format of b, converted to f32 panel by panel; NULL: none */
    bool bf16;                                 /* f32 kernels: round a and b to bf16 */
    bool add;                                  /* c += product; c is f32 */
    bool c_bf16, res_bf16;                     /* stored as bf16 */
    void *c;                                   /* [M,N] */
    int64_t ldc;                               /* elements from row to row */
    const float *scale;                        /* [N], of b's levels: c = act(scale sum + bias) + res; may be NULL */
    const float *bias;                         /* [N]; may be NULL */
    const void *res;                           /* [M,N]: residual or, with gate, the pre-activation; may be NULL */
    int64_t ldres;                             /* elements */
    int act, gate;                             /* enum dan_act: c = act(sum + bias) + res, or (sum + bias) gate'(res) */
    void *pre;                                 /* [M,N] of c's type and ldpre: sum + bias goes here, too; may be NULL */
    int64_t ldpre;
    const struct dan_args *share;              /* its threads pack b together (barriers); NULL: each for itself */
};

/* Thread ith of nth computes its rectangle of c; no barrier at the end is implied.  `ws` is shared by the
 * threads, 64-byte aligned, of bytes(m, n, k, nth) (f32 c, nothing shared); bytes grows with every argument. */
typedef void   dan_gemm_fn(const struct dan_gemm *g, void *ws, int ith, int nth);
typedef size_t dan_gemm_bytes_fn(int64_t m, int64_t n, int64_t k, int nth);
dan_gemm_fn       dan_gemm_f32_scalar, dan_gemm_f32_avx2, dan_gemm_f32_avx512, dan_gemm_bf16_avx512, dan_gemm_bf16_amx;
dan_gemm_bytes_fn dan_gemm_f32_scalar_bytes, dan_gemm_f32_avx2_bytes, dan_gemm_f32_avx512_bytes,
                  dan_gemm_bf16_avx512_bytes, dan_gemm_bf16_amx_bytes;

/* A tile whose sums are complete: s, ld floats from row to row, are to become c[row.., col..]. */
struct done { const float *s; int64_t ld, row, col; int rows, cols; };

/* For the tile of a unit beside the vector instructions: bytes from row to row where a lies unpacked, else 0; a tile
 * that can be finished meanwhile; rows of the next panel, as they lie, to bring near. */
struct beside { int64_t lda; const struct dan_gemm *g; struct done *wait; const char *ahead; int n_ahead; };

/* c[rows,cols] (+)= packed a x columns from col of b^T [N,K], k0 <= k < k0 + n, without packing b; for few rows. */
typedef void dan_gemm_direct_fn(int rows, int cols, int64_t n, const void *a, const struct dan_gemm *g, int64_t col, int64_t k0,
                                float *c, int64_t ldc, bool first);

/* Element [row, col] of a matrix of f32 whose rows are ld bytes apart; of bf16. */
static inline const float *dan_gemm_at(const void *x, int64_t ld, int64_t row, int64_t col)
{
    return (const float *)((const char *)x + row * ld) + col;
}

static inline const char *dan_gemm_at16(const void *x, int64_t ld, int64_t row, int64_t col)
{
    return (const char *)x + row * ld + 2 * col;
}

/* The leading dimensions of t are rows at one distance from each other. */
static inline bool dan_rows_flat(const struct dan_tensor *t)
{
    for (int i = t->shape.n - 2; i > 0; i--)
        if (t->stride[i - 1] != t->shape.d[i] * t->stride[i]) return false;
    return true;
}

static inline int64_t dan_row_stride(const struct dan_tensor *t) { return t->shape.n >= 2 ? t->stride[t->shape.n - 2] : 0; }

static inline bool dan_has_scale(const struct dan_args *a) { return a->n_in > DAN_MATMUL_SCALE && a->in[DAN_MATMUL_SCALE].dtype; }

static inline bool dan_is_rounded(const struct dan_tensor *x) { return x->dtype == &dan_dtype_i8; }

/* residual and y in f32 or bf16, a in these or also rounded to int8, rows at one distance. */
static inline bool dan_matmul_flat_of(const struct dan_args *a, bool rounded)
{
    const struct dan_tensor *x = &a->in[0], *res = &a->in[3];
    if (!(dan_f32_or_bf16(x) || (rounded && dan_is_rounded(x))) || x->shape.n < 2 || a->in[1].shape.n != 2 || !dan_rows_flat(x)) return false;
    for (int i = 0; i < a->n_out; i++)
        if (!dan_f32_or_bf16(&a->out[i]) || a->out[i].dtype != a->out[0].dtype || !dan_rows_flat(&a->out[i])) return false;
    return !res->dtype || (dan_f32_or_bf16(res) && dan_rows_flat(res));
}

static inline bool dan_matmul_flat(const struct dan_args *a) { return dan_matmul_flat_of(a, false); }

/* What every matmul kernel takes but those for levels with a scale. */
static inline bool dan_matmul_fits(const struct dan_args *a) { return !dan_has_scale(a) && dan_matmul_flat(a); }

/* What kernels take that round a by groups, or take it so. */
static inline bool dan_matmul_fits_rounded(const struct dan_args *a) { return !dan_has_scale(a) && dan_matmul_flat_of(a, true); }

static inline int64_t dan_row_elements(const struct dan_tensor *t) { return t->dtype ? dan_row_stride(t) / t->dtype->bytes : 0; }

static inline struct dan_gemm dan_matmul_gemm(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *w = &a->in[1], *res = &a->in[3], *y = &a->out[a->n_out - 1];
    bool ta = a->attr[DAN_MATMUL_TA].i != 0, tb = a->attr[DAN_MATMUL_TB].i != 0;
    struct dan_gemm g = {
        .m = ta ? dan_cols(x) : dan_rows(x), .n = w->shape.d[tb ? 0 : 1], .k = ta ? dan_rows(x) : w->shape.d[tb ? 1 : 0],
        .a = x->data, .b = w->data, .lda = dan_row_stride(x), .ldb = w->stride[0], .ta = ta, .tb = tb,
        .a_rounded = dan_is_rounded(x), .a_bf16 = dan_is_bf16(x), .b_bf16 = dan_is_bf16(w), .bf16 = a->attr[DAN_MATMUL_PREC].i == DAN_PREC_BF16 && !dan_has_scale(a),
        .c_bf16 = dan_is_bf16(y), .c = y->data, .ldc = dan_row_elements(y),
        .scale = dan_has_scale(a) ? a->in[DAN_MATMUL_SCALE].data : NULL,
        .bias = a->in[2].data, .res = res->data, .ldres = dan_row_elements(res), .res_bf16 = dan_is_bf16(res),
        .act = (int)a->attr[DAN_MATMUL_ACT].i, .gate = (int)a->attr[DAN_MATMUL_GATE].i, .share = a,
    };
    if (!dan_f32_or_bf16(w)) g.b_type = w->dtype;
    if (a->n_out > 1) g.pre = a->out[0].data, g.ldpre = dan_row_elements(&a->out[0]);
    return g;
}

#endif
