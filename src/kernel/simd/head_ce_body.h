/* head_ce and head_ce_grad (src/op/head_ce*.c) on the blocked matrix product.  A file of src/kernel/ISA/
 * defines product(g, ws, ith, nth) and product_bytes(m, n, k, nth), then includes this.
 *
 * Rows go in blocks whose logits [block, V] fit in LOGITS_BYTES, so that they are computed once and turned
 * into the gradient in place.  Larger blocks read w and dw less often (they are V C floats each, once per
 * block), smaller ones keep the logits nearer; at C = 768 both cost the same at 512 rows of V = 32 k.  The
 * attribute chunk is the reference's way to save memory and plays no part here.
 *
 * Rows without a target cost nothing: where there are any, those that have one are gathered. */
#include <math.h>
#include <string.h>
#include "core/args.h"
#include "op/attrs.h"
#include "kernel/simd/gemm.h"

enum { LOGITS_BYTES = 64 << 20, LOSS = 0, DX = 1, DW = 2 };

struct head {
    int64_t n, v, c, block;                    /* rows, vocabulary, channels, rows of a block */
    int64_t ld;                                /* floats from row to row of the logits: off powers of two, whose lines share a cache set */
    const struct dan_tensor *x, *w;
    const int32_t *target;
    float *loss, *logits;                      /* [N], [block,V] */
    void *ws;                                  /* of the products */
    bool bf16;
    int64_t m;                                 /* rows with a target */
    int32_t *pick;                             /* [m]; NULL: all rows have one */
    float *xg, *dxg;                           /* [block,C] of gathered rows */
};

static inline int64_t block_rows(const struct head *h) { return h->n < h->block ? h->n : h->block; }
static inline size_t logits_bytes(const struct head *h) { return (size_t)(block_rows(h) * h->ld) * sizeof(float); }
static inline size_t gather_bytes(const struct head *h) { return ((size_t)(block_rows(h) * h->c) * sizeof(float) + 63) / 64 * 64; }
static inline size_t pick_bytes(const struct head *h) { return ((size_t)h->n * sizeof(int32_t) + 63) / 64 * 64; }
static inline size_t head_bytes(const struct head *h) { return logits_bytes(h) + 2 * gather_bytes(h) + pick_bytes(h); }

static inline struct head head_of(const struct dan_args *a)
{
    struct head h = {.n = a->in[0].shape.d[0], .v = a->in[1].shape.d[0], .c = a->in[1].shape.d[1]};
    int64_t fit = LOGITS_BYTES / 4 / (h.v ? h.v : 1), least = 32;
    h.block = fit > least ? fit : least;       /* depends on V alone: so do the bits of dw */
    if (h.block > 8192) h.block = 8192;
    h.x = &a->in[0];
    h.w = &a->in[1];
    h.target = a->in[2].data;
    h.loss = a->out[LOSS].data;
    h.logits = a->ws;
    h.ld = (h.v + 15) / 16 * 16 + 16;
    h.m = h.n;
    h.ws = (char *)a->ws + head_bytes(&h);
    h.bf16 = a->attr[DAN_CE_PREC].i == DAN_PREC_BF16;
    return h;
}

static inline bool head_fits(const struct dan_args *a)
{
    return a->in[0].dtype == &dan_dtype_f32 && a->in[0].shape.n == 2;
}

static inline bool has_loss(const struct head *h, int64_t n) { return h->target[n] >= 0 && h->target[n] < h->v; }

static inline int64_t row_of(const struct head *h, int64_t i) { return h->pick ? h->pick[i] : i; }

/* Counts the rows with a target and, where some have none, lists them. */
static inline void pick_rows(const struct dan_args *a, struct head *h)
{
    int64_t m = 0;
    for (int64_t n = 0; n < h->n; n++) m += has_loss(h, n);
    h->m = m;
    if (m == h->n) return;
    h->xg = (float *)((char *)a->ws + logits_bytes(h));
    h->dxg = (float *)((char *)h->xg + gather_bytes(h));
    h->pick = (int32_t *)(void *)((char *)h->dxg + gather_bytes(h));
    for (int64_t n = m = 0; a->ith == 0 && n < h->n; n++)
        if (has_loss(h, n)) h->pick[m++] = (int32_t)n;
    dan_args_barrier(a);
}

/* Rows row .. of those with a target, as the products read them: where they lie, and bytes from one to the next. */
static inline const void *block_x(const struct dan_args *a, const struct head *h, int64_t row, int64_t rows, int64_t *ld)
{
    *ld = h->pick ? h->c * (int64_t)sizeof(float) : h->x->stride[0];
    if (!h->pick) return dan_row(h->x, row);
    int64_t lo, hi;
    dan_share(a, rows, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) memcpy(h->xg + i * h->c, dan_row(h->x, h->pick[row + i]), (size_t)h->c * sizeof(float));
    dan_args_barrier(a);
    return h->xg;
}

/* w as the second operand. */
static inline struct dan_gemm of_weights(const struct head *h)
{
    return (struct dan_gemm){.b = h->w->data, .ldb = h->w->stride[0], .b_bf16 = dan_is_bf16(h->w), .b_type = dan_f32_or_bf16(h->w) ? NULL : h->w->dtype, .bf16 = h->bf16};
}

/* logits[rows,V] = x w^T of a block */
static inline void block_logits(const struct dan_args *a, const struct head *h, const void *x, int64_t ldx, int64_t rows)
{
    struct dan_gemm g = of_weights(h);
    g.m = rows, g.n = h->v, g.k = h->c;
    g.a = x, g.lda = ldx;
    g.tb = true;
    g.c = h->logits, g.ldc = h->ld;
    product(&g, h->ws, a->ith, a->nth);
}

/* ln sum e^z */
static inline float row_lse(const float *z, int64_t n)
{
    vf top = vf_set(-INFINITY), sum[4] = {vf_set(0.f), vf_set(0.f), vf_set(0.f), vf_set(0.f)};
    int64_t i = 0;
    for (; i + VF <= n; i += VF) top = vf_max(vf_load(z + i), top);
    float m = vf_top(top), tail = 0;
    for (; i < n; i++) m = z[i] > m ? z[i] : m;
    for (i = 0; i + VF <= n; i += VF) sum[i / VF % 4] = vf_add(sum[i / VF % 4], vf_exp(vf_sub(vf_load(z + i), vf_set(m))));
    for (; i < n; i++) tail += expf(z[i] - m);
    return m + logf(vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3]))) + tail);
}

/* z <- (e^(z - lse) - [target]) dloss */
static inline void row_grad(float *z, int64_t n, float lse, int64_t target, float dloss)
{
    int64_t i = 0;
    float at = (expf(z[target] - lse) - 1) * dloss;
    for (; i + VF <= n; i += VF) vf_store(z + i, vf_mul(vf_exp(vf_sub(vf_load(z + i), vf_set(lse))), vf_set(dloss)));
    for (; i < n; i++) z[i] = expf(z[i] - lse) * dloss;
    z[target] = at;
}
