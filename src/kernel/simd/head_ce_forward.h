/* The kernel of head_ce; after head_ce_body.h. */
static size_t workspace(const struct dan_args *a, int nth)
{
    struct head h = head_of(a);
    return logits_bytes(&h) + product_bytes(h.n < h.block ? h.n : h.block, h.v, h.c, nth);
}

static void run(const struct dan_args *a)
{
    struct head h = head_of(a);
    for (int64_t row = 0; row < h.n; row += h.block) {
        int64_t rows = h.n - row < h.block ? h.n - row : h.block, lo, hi;
        if (row) dan_args_barrier(a);                  /* the last block's logits are read */
        block_logits(a, &h, row, rows);
        dan_args_barrier(a);
        dan_share(a, rows, 1, &lo, &hi);
        for (int64_t i = lo; i < hi; i++) {
            const float *z = h.logits + i * h.ld;
            h.loss[row + i] = has_loss(&h, row + i) ? row_lse(z, h.v) - z[h.target[row + i]] : 0;
        }
    }
}
