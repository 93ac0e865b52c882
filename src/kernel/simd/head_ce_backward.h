/* The kernel of head_ce_grad; after head_ce_body.h. */
static size_t workspace(const struct dan_args *a, int nth)
{
    struct head h = head_of(a);
    int64_t rows = h.n < h.block ? h.n : h.block;
    size_t need[] = {product_bytes(rows, h.v, h.c, nth), product_bytes(rows, h.c, h.v, nth), product_bytes(h.v, h.c, rows, nth)}, most = 0;
    for (int i = 0; i < 3; i++) most = need[i] > most ? need[i] : most;
    return logits_bytes(&h) + most;
}

/* Loss of the thread's rows of a block; their logits become d loss / d logits. */
static void block_grad(const struct dan_args *a, const struct head *h, int64_t row, int64_t rows)
{
    const float *dloss = a->in[3].data;
    int64_t lo, hi;
    dan_share(a, rows, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        float *z = h->logits + i * h->ld;
        int64_t n = row + i;
        if (!has_loss(h, n)) {
            h->loss[n] = 0;
            memset(z, 0, (size_t)h->v * sizeof *z);
            continue;
        }
        float lse = row_lse(z, h->v);
        h->loss[n] = lse - z[h->target[n]];
        row_grad(z, h->v, lse, h->target[n], dloss[n]);
    }
}

/* dx[rows,C] = g w; dw[V,C] (+)= g^T x */
static void block_products(const struct dan_args *a, const struct head *h, int64_t row, int64_t rows)
{
    const struct dan_tensor *dx = &a->out[DX], *dw = &a->out[DW];
    struct dan_gemm of_x = {
        .m = rows, .n = h->c, .k = h->v, .a = h->logits, .lda = h->ld * 4, .b = h->w->data, .ldb = h->w->stride[0],
        .bf16 = h->bf16, .c = dan_row(dx, row), .ldc = dx->stride[0] / 4,
    };
    struct dan_gemm of_w = {
        .m = h->v, .n = h->c, .k = rows, .a = h->logits, .lda = h->ld * 4, .ta = true, .b = dan_row(h->x, row), .ldb = h->x->stride[0],
        .bf16 = h->bf16, .c = dw->data, .ldc = dw->stride[0] / 4, .add = row > 0,
    };
    product(&of_x, h->ws, a->ith, a->nth);
    dan_args_barrier(a);                               /* the products cut ws among the threads in different ways */
    product(&of_w, h->ws, a->ith, a->nth);
}

static void run(const struct dan_args *a)
{
    struct head h = head_of(a);
    if (h.n == 0) {
        int64_t lo, hi;
        dan_share(a, h.v, 1, &lo, &hi);
        for (int64_t v = lo; v < hi; v++) memset(dan_row(&a->out[DW], v), 0, (size_t)h.c * sizeof(float));
    }
    for (int64_t row = 0; row < h.n; row += h.block) {
        int64_t rows = h.n - row < h.block ? h.n - row : h.block;
        if (row) dan_args_barrier(a);                  /* the last block's gradients are read */
        block_logits(a, &h, row, rows);
        dan_args_barrier(a);
        block_grad(a, &h, row, rows);
        dan_args_barrier(a);
        block_products(a, &h, row, rows);
    }
}
