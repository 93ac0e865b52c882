/* rope_kv_write: the rotation of rope_body.h, head by head into the cache.  Include rope_body.h before. */
#include "kernel/simd/kv_store.h"

enum { KV_CACHE, KV_ROWS, KV_SLOT, KV_TABLE };

/* A head on its way into a cache that is not f32, and as that stores it, one a thread. */
static size_t head_bytes(const struct dan_args *a) { return 2 * kv_buffer(a->attr[DAN_ROPE_DIM].i); }
static size_t workspace_kv(const struct dan_args *a, int nth) { return head_bytes(a) * (size_t)nth; }

static bool accepts_kv(const struct dan_args *a) { return a->in[KV_ROWS].dtype == &dan_dtype_f32 && kv_accepts(&a->out[0]); }

/* Head h of row r, which goes to token j. */
static void write_head(const struct dan_args *a, int64_t h, int64_t r, int64_t j, float *head)
{
    const struct dan_tensor *table = &a->in[KV_TABLE], *cache = &a->out[0];
    const int64_t d = a->attr[DAN_ROPE_DIM].i, half = dan_cols(table) / 2;
    const float *x = (const float *)dan_row(&a->in[KV_ROWS], r) + h * d;
    if (cache->shape.n == 2 && cache->dtype == &dan_dtype_f32) {
        rotate(x, (float *)dan_row(cache, j) + h * d, dan_row(table, r), false, half, d);
        return;
    }
    rotate(x, head, dan_row(table, r), false, half, d);
    if (cache->shape.n == 2) {
        cache->dtype->from_f32(head, (char *)dan_row(cache, j) + h * d * cache->dtype->bytes, d);
        return;
    }
    const struct dan_kv c = dan_kv_of(cache, false);
    kv_store_head(&c, h, j, head, d, (char *)head + kv_buffer(d));
}

/* Heads are shared out, not rows: equal slots then keep their order. */
static void run_kv(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[KV_ROWS], *cache = &a->out[0];
    const int32_t *slot = a->in[KV_SLOT].data;
    const int64_t size = cache->shape.d[cache->shape.n - 2];
    float *head = (float *)((char *)a->ws + head_bytes(a) * (size_t)a->ith);
    int64_t lo, hi;
    dan_share(a, dan_cols(x) / a->attr[DAN_ROPE_DIM].i, 1, &lo, &hi);
    for (int64_t h = lo; h < hi; h++)
        for (int64_t r = 0; r < dan_rows(x); r++)
            if (slot[r] >= 0 && slot[r] < size) write_head(a, h, r, slot[r], head);
}
