/* What kv_write and rope_kv_write share: which caches take which rows, and how a row gets there. */
#ifndef DAN_OP_KV_INFER_H
#define DAN_OP_KV_INFER_H
#include "core/kv.h"
#include "op/node.h"

/* cache [S,C] or [K,S,E], rows [N,C], slot i32 [N]. */
static inline int kv_check(const struct dan_graph *g, const struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *cache = dan_in(g, n, 0), *rows = dan_in(g, n, 1), *slot = dan_in(g, n, 2);
    bool heads = cache->shape.n == 3;
    if (rows->shape.n != 2 || !(heads || cache->shape.n == 2) || (!heads && rows->shape.d[1] != cache->shape.d[1]))
        return dan_infer_fail(n, e, "cache must be [S,C] and rows [N,C] with the same C, or cache [K,S,E] and rows [N,K*D]");
    if (!dan_is_float(rows->dtype)) return dan_infer_fail(n, e, "rows must be f32 or f64, not '%s'", rows->dtype->name);
    if (heads ? !dan_kv_takes(cache->dtype) : cache->dtype != rows->dtype && (cache->dtype->block != 1 || !cache->dtype->from_f32))
        return dan_infer_fail(n, e, "cache in '%s' cannot be written row by row: use f32, bf16 or f16, or i8 by heads", cache->dtype->name);
    if (heads) {
        int64_t k = cache->shape.d[0];
        struct dan_shape want = dan_kv_shape(cache->dtype, k, cache->shape.d[1], k > 0 ? rows->shape.d[1] / k : 0);
        if (k <= 0 || rows->shape.d[1] % k || !dan_shape_equal(&want, &cache->shape))
            return dan_infer_fail(n, e, "cache by heads does not fit rows of %lld columns: use dan_kv_shape", (long long)rows->shape.d[1]);
    }
    if (slot->dtype != &dan_dtype_i32 || slot->shape.n != 1 || slot->shape.d[0] != rows->shape.d[0])
        return dan_infer_fail(n, e, "slot must be i32 [N], one cache row a row");
    return DAN_OK;
}

/* x[n] to dst in the cache's format. */
static inline void kv_store(const struct dan_dtype *t, const real *x, char *dst, int64_t n)
{
    if (t == DAN_REAL_DTYPE) {
        memcpy(dst, x, (size_t)n * sizeof *x);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float f = (float)x[i];
        t->from_f32(&f, dst + i * t->bytes, 1);
    }
}

/* Bytes of a head of d dims in a thread's workspace: as f32, then as the cache stores it. */
static inline size_t kv_head_bytes(int64_t d) { return ((size_t)d * 8 + 63) / 64 * 64; }

/* Head h of a cache [K,S,E]: token j = x[d]. */
static inline void kv_store_head(const struct dan_kv *c, int64_t h, int64_t j, const real *x, int64_t d, float *tmp)
{
    for (int64_t i = 0; i < d; i++) tmp[i] = (float)x[i];
    dan_kv_write_row(c, h, j, tmp, d, tmp + d);
}

#endif
