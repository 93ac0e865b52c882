/* The kernel of head_ce_grad; after head_ce_body.h. */
static bool has_dw(const struct dan_args *a) { return a->n_out > DW; }

static size_t workspace(const struct dan_args *a, int nth)
{
    struct head h = head_of(a);
    int64_t rows = block_rows(&h);
    size_t need[] = {product_bytes(rows, h.v, h.c, nth), product_bytes(rows, h.c, h.v, nth), has_dw(a) ? product_bytes(h.v, h.c, rows, nth) : 0}, most = 0;
    for (int i = 0; i < 3; i++) most = need[i] > most ? need[i] : most;
    return head_bytes(&h) + most;
}

/* No row's loss counts: a run for the losses alone. */
static bool is_idle(const struct dan_args *a, const struct head *h)
{
    const float *dloss = a->in[3].data;
    for (int64_t n = 0; n < h->n; n++)
        if (dloss[n] != 0 && has_loss(h, n)) return false;
    return true;
}

/* What no product writes. */
static void clear(const struct dan_args *a, const struct head *h, bool idle)
{
    int64_t lo, hi;
    dan_share(a, h->n, 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        if (!has_loss(h, n)) h->loss[n] = 0;
        if (idle || !has_loss(h, n)) memset(dan_row(&a->out[DX], n), 0, (size_t)h->c * sizeof(float));
    }
    dan_share(a, h->v, 1, &lo, &hi);
    for (int64_t v = lo; v < hi && idle && has_dw(a); v++) memset(dan_row(&a->out[DW], v), 0, (size_t)h->c * sizeof(float));
}

/* Loss of the thread's rows of a block; their logits become d loss / d logits. */
static void block_grad(const struct dan_args *a, const struct head *h, int64_t row, int64_t rows, bool idle)
{
    const float *dloss = a->in[3].data;
    int64_t lo, hi;
    dan_share(a, rows, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        float *z = h->logits + i * h->ld;
        int64_t n = row_of(h, row + i);
        float lse = row_lse(z, h->v);
        h->loss[n] = lse - z[h->target[n]];
        if (!idle) row_grad(z, h->v, lse, h->target[n], dloss[n]);
    }
}

/* dx[rows,C] = g w */
static void block_dx(const struct dan_args *a, const struct head *h, int64_t row, int64_t rows)
{
    const struct dan_tensor *dx = &a->out[DX];
    struct dan_gemm g = of_weights(h);
    g.m = rows, g.n = h->c, g.k = h->v;
    g.a = h->logits, g.lda = h->ld * 4;
    g.c = h->pick ? h->dxg : dan_row(dx, row), g.ldc = h->pick ? h->c : dx->stride[0] / 4;
    product(&g, h->ws, a->ith, a->nth);
}

/* dw[V,C] (+)= g^T x */
static void block_dw(const struct dan_args *a, const struct head *h, const void *x, int64_t ldx, int64_t row, int64_t rows)
{
    const struct dan_tensor *dw = &a->out[DW];
    struct dan_gemm g = {.m = h->v, .n = h->c, .k = rows, .a = h->logits, .lda = h->ld * 4, .ta = true, .b = x, .ldb = ldx,
                         .bf16 = h->bf16, .c = dw->data, .ldc = dw->stride[0] / 4, .add = row > 0};
    product(&g, h->ws, a->ith, a->nth);
}

static void scatter_dx(const struct dan_args *a, const struct head *h, int64_t row, int64_t rows)
{
    int64_t lo, hi;
    dan_share(a, rows, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) memcpy(dan_row(&a->out[DX], h->pick[row + i]), h->dxg + i * h->c, (size_t)h->c * sizeof(float));
}

static void run(const struct dan_args *a)
{
    struct head h = head_of(a);
    const bool idle = is_idle(a, &h);
    pick_rows(a, &h);
    clear(a, &h, idle);
    for (int64_t row = 0; row < h.m; row += h.block) {
        int64_t rows = h.m - row < h.block ? h.m - row : h.block, ldx;
        if (row) dan_args_barrier(a);                  /* the last block's gradients are read */
        const void *x = block_x(a, &h, row, rows, &ldx);
        block_logits(a, &h, x, ldx, rows);
        dan_args_barrier(a);
        block_grad(a, &h, row, rows, idle);
        if (idle) continue;
        dan_args_barrier(a);
        block_dx(a, &h, row, rows);
        if (has_dw(a) || h.pick) dan_args_barrier(a);  /* the products cut ws among the threads in different ways; rows of dx are whole */
        if (has_dw(a)) block_dw(a, &h, x, ldx, row, rows);
        if (h.pick) scatter_dx(a, &h, row, rows);
    }
}
