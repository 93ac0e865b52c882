/* The kernel of head_ce; after head_ce_body.h. */
static size_t workspace(const struct dan_args *a, int nth)
{
    struct head h = head_of(a);
    return head_bytes(&h) + product_bytes(block_rows(&h), h.v, h.c, nth);
}

static void run(const struct dan_args *a)
{
    struct head h = head_of(a);
    int64_t lo, hi, ldx;
    pick_rows(a, &h);
    dan_share(a, h.n, 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++)
        if (!has_loss(&h, n)) h.loss[n] = 0;
    for (int64_t row = 0; row < h.m; row += h.block) {
        int64_t rows = h.m - row < h.block ? h.m - row : h.block;
        if (row) dan_args_barrier(a);                  /* the last block's logits are read */
        const void *x = block_x(a, &h, row, rows, &ldx);
        block_logits(a, &h, x, ldx, rows);
        dan_args_barrier(a);
        dan_share(a, rows, 1, &lo, &hi);
        for (int64_t i = lo; i < hi; i++) {
            const float *z = h.logits + i * h.ld;
            int64_t n = row_of(&h, row + i);
            h.loss[n] = row_lse(z, h.v) - z[h.target[n]];
        }
    }
}
