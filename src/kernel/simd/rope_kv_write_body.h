/* rope_kv_write: the rotation of rope_body.h, head by head into the cache's row.  Include rope_body.h before. */
enum { KV_CACHE, KV_ROWS, KV_SLOT, KV_TABLE };

/* A head on its way into a cache that is not f32, one a thread. */
static size_t head_bytes(const struct dan_args *a) { return ((size_t)a->attr[DAN_ROPE_DIM].i + 15) / 16 * 64; }
static size_t workspace_kv(const struct dan_args *a, int nth) { return head_bytes(a) * (size_t)nth; }

static bool accepts_kv(const struct dan_args *a)
{
    return a->in[KV_ROWS].dtype == &dan_dtype_f32 && (a->out[0].dtype == &dan_dtype_f32 || a->out[0].dtype == &dan_dtype_bf16);
}

/* Heads are shared out, not rows: equal slots then keep their order. */
static void run_kv(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[KV_ROWS], *table = &a->in[KV_TABLE], *cache = &a->out[0];
    const int32_t *slot = a->in[KV_SLOT].data;
    const int64_t d = a->attr[DAN_ROPE_DIM].i, half = dan_cols(table) / 2;
    const bool plain = cache->dtype == &dan_dtype_f32;
    float *head = (float *)((char *)a->ws + head_bytes(a) * (size_t)a->ith);
    int64_t lo, hi;
    dan_share(a, dan_cols(x) / d, 1, &lo, &hi);
    for (int64_t r = 0; r < dan_rows(x); r++) {
        if (slot[r] < 0 || slot[r] >= cache->shape.d[0]) continue;
        for (int64_t h = lo; h < hi; h++) {
            char *y = (char *)dan_row(cache, slot[r]) + h * d * cache->dtype->bytes;
            rotate((const float *)dan_row(x, r) + h * d, plain ? (float *)y : head, dan_row(table, r), false, half, d);
            if (!plain) cache->dtype->from_f32(head, y, d);
        }
    }
}
