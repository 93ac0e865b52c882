/* Rotary positions, in halves as Hugging Face stores them, with the table [N,R] of rope_table (cosines, then sines): for
 * i < R/2 of every head of D >= R dims,
 *   y[i] = x[i] cos - x[i+R/2] sin;  y[i+R/2] = x[i+R/2] cos + x[i] sin;  dims from R on stay.
 * backward rotates by -angle, which is the gradient (a rotation times a scalar).  Su et al. 2021, "RoFormer". */
#include "op/op.h"
#include "op/rope_infer.h"

enum { X, TABLE };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int rc = rope_check(g, n, dan_in(g, n, X), dan_in(g, n, TABLE), e);
    return rc ? rc : dan_infer_same(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const int64_t d = a->attr[DAN_ROPE_DIM].i, turn = dan_cols(&a->in[TABLE]);
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->in[X]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *x = dan_row(&a->in[X], r);
        real *y = dan_row(&a->out[0], r);
        for (int64_t h = 0; h < dan_cols(&a->in[X]); h += d)
            for (int64_t i = 0; i < d; i++) y[h + i] = rope_turned(x + h, dan_row(&a->in[TABLE], r), turn, i, a->attr[DAN_ROPE_BACKWARD].i);
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    dx[X] = dan_rope(b, dy[0], n.in[TABLE], n.attr[DAN_ROPE_DIM].i, !n.attr[DAN_ROPE_BACKWARD].i);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 3, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t dim[] = {8, 6, 64, 32, 10}, heads[] = {3, 1, 2, 2, 3}, turn[] = {8, 6, 64, 24, 4};
    if (i >= 5) return false;
    dan_ref x = dan_sample_columns(s, dim[i] * heads[i], i == 0);
    s->y = dan_rope(s->b, x, rope_sample_table(s, turn[i]), dim[i], i == 3);
    return true;
}

DAN_OP(rope) = {
    .name = "rope",
    .doc = "rotates the halves of every head by a table of cosines and sines",
    .n_in = 2, .half_in = 0x1, .half_out = 0x1, .props = DAN_OP_ROWWISE | DAN_OP_STRIDED,
    .attrs = {{"dim", 'i'}, {"backward", 'i'}},
    .infer = infer,
    .ref = ref,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
