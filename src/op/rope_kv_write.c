/* kv_write(cache, rope(rows, table), slot): the rotated keys go straight into the cache.  See rope.c and kv_write.c. */
#include "op/op.h"
#include "op/rope_infer.h"

enum { CACHE, ROWS, SLOT, TABLE };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *cache = dan_in(g, n, CACHE), *rows = dan_in(g, n, ROWS), *slot = dan_in(g, n, SLOT);
    int rc = rope_check(g, n, rows, dan_in(g, n, TABLE), e);
    if (rc) return rc;
    if (cache->shape.n != 2 || rows->shape.d[1] != cache->shape.d[1])
        return dan_infer_fail(n, e, "cache must be [S,C] and rows [N,C] with the same C");
    if (cache->dtype != rows->dtype && (cache->dtype->block != 1 || !cache->dtype->from_f32))
        return dan_infer_fail(n, e, "cache in '%s' cannot be written row by row: use f32, bf16 or f16", cache->dtype->name);
    if (slot->dtype != &dan_dtype_i32 || slot->shape.n != 1 || slot->shape.d[0] != rows->shape.d[0])
        return dan_infer_fail(n, e, "slot must be i32 [N], one a row");
    return dan_infer_same(g, n, e);
}

static void store(const struct dan_dtype *t, real x, char *dst)
{
    float f = (float)x;
    if (t == DAN_REAL_DTYPE) memcpy(dst, &x, sizeof x);
    else t->from_f32(&f, dst, 1);
}

static void write_head(const struct dan_args *a, int64_t r, int64_t h)
{
    const struct dan_tensor *cache = &a->out[0];
    const int64_t d = a->attr[DAN_ROPE_DIM].i, bytes = cache->dtype->bytes;
    const real *x = (const real *)dan_row(&a->in[ROWS], r) + h * d;
    char *y = (char *)dan_row(cache, ((const int32_t *)a->in[SLOT].data)[r]) + h * d * bytes;
    for (int64_t i = 0; i < d; i++)
        store(cache->dtype, rope_turned(x, dan_row(&a->in[TABLE], r), dan_cols(&a->in[TABLE]), i, false), y + i * bytes);
}

/* Heads are shared out, not rows: equal slots then keep their order. */
static void ref(const struct dan_args *a)
{
    const int32_t *slot = a->in[SLOT].data;
    int64_t lo, hi, n = a->in[ROWS].shape.d[0];
    dan_share(a, a->in[ROWS].shape.d[1] / a->attr[DAN_ROPE_DIM].i, 1, &lo, &hi);
    for (int64_t r = 0; r < n; r++)
        for (int64_t h = lo; h < hi && slot[r] >= 0 && slot[r] < a->out[0].shape.d[0]; h++) write_head(a, r, h);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    int64_t count = dan_shape_count(&dan_in(g, n, ROWS)->shape);
    *flops = 3 * (double)count;
    *bytes = (double)dan_dtype_bytes(dan_in(g, n, ROWS)->dtype, count) + (double)dan_dtype_bytes(n->dtype, count);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t dim[] = {8, 6, 64, 10}, heads[] = {3, 1, 2, 2}, turn[] = {8, 6, 64, 4};
    if (i >= 4) return false;
    s->no_grad = true;
    int64_t c = dim[i] * heads[i];
    dan_ref cache = dan_state(s->b, "cache", s->dtype, DAN_SHAPE(12, c)), rows = dan_sample_columns(s, c, i == 1);
    int32_t slots[64];
    for (int64_t r = 0; r < 64; r++) slots[r] = (int32_t)(r * 5 % 13) - 1;
    struct dan_shape n = DAN_SHAPE(s->rows);
    dan_ref slot = s->rows <= 64 ? s->values(s, n, slots, true) : s->ints(s, n, 12, true);
    s->y = dan_rope_kv_write(s->b, cache, rows, slot, rope_sample_table(s, turn[i]), dim[i]);
    return true;
}

DAN_OP(rope_kv_write) = {
    .name = "rope_kv_write",
    .doc = "cache[slot[i]] = rope(rows[i]) in place; slot -1 drops the row",
    .n_in = 4,
    .props = DAN_OP_STATE | DAN_OP_NO_GRAD,
    .attrs = {{"dim", 'i'}},
    .infer = infer,
    .ref = ref,
    .cost = cost,
    .sample = sample,
};
