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

enum { CHUNK = 32 };                           /* columns of a, rows of b that packing may take at a time; KC is a multiple */

struct dan_gemm {
    int64_t m, n, k;
    const void *a, *b;                         /* a [M,K] or, ta, [K,M]; b [K,N] or, tb, [N,K] */
    int64_t lda, ldb;                          /* bytes from row to row */
    bool ta, tb;
    const struct dan_dtype *b_type;            /* NULL: what the kernel is made for; else b is converted to f32 panel by panel */
    bool b_bf16;                               /* b is stored as bf16 and pack_b takes it so (enum TAKES_BF16) */
    bool bf16;                                 /* f32 kernels: round a and b to bf16 */
    bool add;                                  /* c += product */
    float *c;
    int64_t ldc;                               /* floats from row to row */
    const float *bias, *res;                   /* [N], [M,N]; may be NULL */
    int64_t ldres;                             /* floats */
    int act;                                   /* enum dan_act */
};

/* Thread ith of nth computes its rectangle of c: no barrier inside, and none is implied.  `ws` is
 * shared by the threads, 64-byte aligned, of bytes(m, n, k, nth); bytes grows with every argument. */
typedef void   dan_gemm_fn(const struct dan_gemm *g, void *ws, int ith, int nth);
typedef size_t dan_gemm_bytes_fn(int64_t m, int64_t n, int64_t k, int nth);
dan_gemm_fn       dan_gemm_f32_scalar, dan_gemm_f32_avx2, dan_gemm_f32_avx512, dan_gemm_bf16_avx512, dan_gemm_bf16_amx;
dan_gemm_bytes_fn dan_gemm_f32_scalar_bytes, dan_gemm_f32_avx2_bytes, dan_gemm_f32_avx512_bytes,
                  dan_gemm_bf16_avx512_bytes, dan_gemm_bf16_amx_bytes;

/* c[rows,cols] (+)= packed a x columns from col of b^T [N,K], k0 <= k < k0 + n, without packing b; for few rows. */
typedef void dan_gemm_direct_fn(int rows, int cols, int64_t n, const void *a, const struct dan_gemm *g, int64_t col, int64_t k0,
                                float *c, bool first);

/* Element [row, col] of a matrix whose rows are ld bytes apart. */
static inline const float *dan_gemm_at(const void *x, int64_t ld, int64_t row, int64_t col)
{
    return (const float *)((const char *)x + row * ld) + col;
}

/* The leading dimensions of t are rows at one distance from each other. */
static inline bool dan_rows_flat(const struct dan_tensor *t)
{
    for (int i = t->shape.n - 2; i > 0; i--)
        if (t->stride[i - 1] != t->shape.d[i] * t->stride[i]) return false;
    return true;
}

static inline int64_t dan_row_stride(const struct dan_tensor *t) { return t->shape.n >= 2 ? t->stride[t->shape.n - 2] : 0; }

/* Shapes that every matmul kernel takes: f32 a and y, rows at one distance. */
static inline bool dan_matmul_fits(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *res = &a->in[3];
    if (x->dtype != &dan_dtype_f32 || a->out[0].dtype != &dan_dtype_f32) return false;
    if (x->shape.n < 2 || a->in[1].shape.n != 2 || !dan_rows_flat(x) || !dan_rows_flat(&a->out[0])) return false;
    return !res->dtype || (res->dtype == &dan_dtype_f32 && dan_rows_flat(res));
}

static inline struct dan_gemm dan_matmul_gemm(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *w = &a->in[1], *y = &a->out[0];
    bool ta = a->attr[DAN_MATMUL_TA].i != 0, tb = a->attr[DAN_MATMUL_TB].i != 0;
    return (struct dan_gemm){
        .m = ta ? dan_cols(x) : dan_rows(x), .n = w->shape.d[tb ? 0 : 1], .k = ta ? dan_rows(x) : dan_cols(x),
        .a = x->data, .b = w->data, .lda = dan_row_stride(x), .ldb = w->stride[0], .ta = ta, .tb = tb,
        .b_type = w->dtype == &dan_dtype_f32 ? NULL : w->dtype, .bf16 = a->attr[DAN_MATMUL_PREC].i == DAN_PREC_BF16,
        .c = y->data, .ldc = dan_row_stride(y) / 4,
        .bias = a->in[2].data, .res = a->in[3].data, .ldres = dan_row_stride(&a->in[3]) / 4,
        .act = (int)a->attr[DAN_MATMUL_ACT].i,
    };
}

#endif
