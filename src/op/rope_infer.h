/* What rope and rope_kv_write share. */
#ifndef DAN_OP_ROPE_INFER_H
#define DAN_OP_ROPE_INFER_H
#include "core/rope.h"
#include "op/node.h"

/* x [N,H*D], table f32 [N,R], R even and at most D. */
static inline int rope_check(const struct dan_graph *g, const struct dan_node *n, const struct dan_node *x, const struct dan_node *table,
                             struct dan_err *e)
{
    (void)g;
    int64_t d = n->attr[DAN_ROPE_DIM].i;
    if (!dan_is_float(x->dtype) || x->shape.n != 2) return dan_infer_fail(n, e, "rows must be f32 or f64 [N,H*D]");
    if (d <= 0 || x->shape.d[1] % d)
        return dan_infer_fail(n, e, "head dim %lld does not divide %lld columns", (long long)d, (long long)x->shape.d[1]);
    if (table->dtype != &dan_dtype_f32 || table->shape.n != 2 || table->shape.d[0] != x->shape.d[0])
        return dan_infer_fail(n, e, "table must be f32 [%lld,R], cosines and sines of every row: use rope_table", (long long)x->shape.d[0]);
    if (table->shape.d[1] % 2 || table->shape.d[1] > d)
        return dan_infer_fail(n, e, "a table of %lld columns does not fit head dim %lld", (long long)table->shape.d[1], (long long)d);
    return DAN_OK;
}

/* Dim i of a head x, turned. */
static inline real rope_turned(const real *x, const float *table, int64_t turn, int64_t i, bool backward)
{
    int64_t half = turn / 2, pair = i % (half > 0 ? half : 1);
    if (i >= turn) return x[i];
    real cs = table[pair], sn = backward ? -table[half + pair] : table[half + pair];
    return i < half ? x[i] * cs - x[i + half] * sn : x[i] * cs + x[i - half] * sn;
}

static inline dan_ref rope_sample_table(struct dan_sample *s, int64_t turn)
{
    struct dan_rope r = {.dim = turn};
    dan_rope_complete(&r, turn, 32);
    return dan_rope_table(s->b, s->ints(s, DAN_SHAPE(s->rows), turn == 64 ? 100000 : 64, true), 0, 0, &r);
}

#endif
