/* rope_kv_write: the rotation of rope_body.h, head by head into the cache's row.  Include rope_body.h before. */
enum { KV_CACHE, KV_ROWS, KV_SLOT, KV_POS };

/* A head on its way into a cache that is not f32; behind the tables of all threads. */
static float *kv_head(const struct dan_args *a)
{
    size_t d = (size_t)a->attr[DAN_ROPE_DIM].i;
    return (float *)((char *)a->ws + table_bytes(a) * (size_t)a->nth) + (size_t)a->ith * ((d + 15) / 16 * 16);
}

static bool accepts_kv(const struct dan_args *a)
{
    return a->in[KV_ROWS].dtype == &dan_dtype_f32 && (a->out[0].dtype == &dan_dtype_f32 || a->out[0].dtype == &dan_dtype_bf16);
}

static size_t workspace_kv(const struct dan_args *a, int nth)
{
    size_t d = (size_t)a->attr[DAN_ROPE_DIM].i;
    return (table_bytes(a) + (d + 15) / 16 * 64) * (size_t)nth;
}

/* Heads are shared out, not rows: equal slots then keep their order.  Every thread needs the angles. */
static void run_kv(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[KV_ROWS], *cache = &a->out[0];
    const int32_t *slot = a->in[KV_SLOT].data, *pos = a->in[KV_POS].data;
    const int64_t d = a->attr[DAN_ROPE_DIM].i;
    const bool plain = cache->dtype == &dan_dtype_f32;
    int64_t lo, hi;
    dan_share(a, dan_cols(x) / d, 1, &lo, &hi);
    if (lo == hi) return;
    struct table t = table_at(a);
    float *head = kv_head(a);
    for (int64_t r = 0; r < dan_rows(x); r++) {
        if (slot[r] < 0 || slot[r] >= cache->shape.d[0]) continue;
        reduce(&t, pos[r], d / 2);
        sine_cosine(&t, 1.0f, d / 2);
        for (int64_t h = lo; h < hi; h++) {
            char *y = (char *)dan_row(cache, slot[r]) + h * d * cache->dtype->bytes;
            rotate((const float *)dan_row(x, r) + h * d, plain ? (float *)y : head, &t, d / 2);
            if (!plain) cache->dtype->from_f32(head, y, d);
        }
    }
}
