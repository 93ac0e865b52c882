/* The cosines and sines of all rows, once for all layers: y[n] = by cos(pos[n] f_0) .. by cos(pos[n] f_{R/2-1}), then
 * the sines; R = dim.  What the frequencies f are: core/rope.h.  Angles are computed in double: in float, position 100000
 * would be off by 0.004 rad.
 * With start and stop a row's sequence is stop - start tokens long, to which dynamic scaling adapts its base: of a whole
 * document that is its length; while decoding, what is known of it when the row is computed (transformers does the same). */
#include "core/rope.h"
#include "op/op.h"
#include "op/node.h"

enum { POS, START, STOP };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    struct dan_rope r = dan_rope_of_attr(n->attr);
    const struct dan_node *pos = dan_in(g, n, POS);
    if (pos->dtype != &dan_dtype_i32 || pos->shape.n != 1) return dan_infer_fail(n, e, "pos must be i32 [N], one position a row");
    for (int i = START; i <= STOP; i++) {
        const struct dan_node *x = dan_in_opt(g, n, i);
        if (x && (x->dtype != &dan_dtype_i32 || !dan_shape_equal(&x->shape, &pos->shape)))
            return dan_infer_fail(n, e, "start and stop must be i32 [%lld], one a row", (long long)pos->shape.d[0]);
    }
    if (r.dim < 2 || r.dim % 2) return dan_infer_fail(n, e, "%lld dims cannot turn in pairs: give an even number", (long long)r.dim);
    if (r.kind < 0 || r.kind >= DAN_N_ROPE_KINDS) return dan_infer_fail(n, e, "kind %lld does not exist", (long long)r.kind);
    if (r.kind == DAN_ROPE_DYNAMIC && (r.dim == 2 || !dan_in_opt(g, n, START) || !dan_in_opt(g, n, STOP)))
        return dan_infer_fail(n, e, "dynamic scaling needs start and stop, and more than 2 dims");
    n->n_out = 1;
    n->dtype = &dan_dtype_f32;
    n->shape = DAN_SHAPE(pos->shape.d[0], r.dim);
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    struct dan_rope rope = dan_rope_of_attr(a->attr);
    const int32_t *pos = a->in[POS].data, *start = a->in[START].data, *stop = a->in[STOP].data;
    int64_t lo, hi, half = rope.dim / 2;
    dan_share(a, a->out[0].shape.d[0], 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        float *y = dan_row(&a->out[0], r);
        double length = start && stop ? (double)stop[r] - start[r] : 0;
        for (int64_t i = 0; i < half; i++) {
            double angle = pos[r] * dan_rope_frequency(&rope, i, length);
            y[i] = (float)(rope.by * cos(angle));
            y[half + i] = (float)(rope.by * sin(angle));
        }
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 12, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const struct dan_rope cases[] = {
        {8, DAN_ROPE_PLAIN, 10000, 1, 1, 4, 32, 1, 1},
        {6, DAN_ROPE_LINEAR, 500000, 4, 1, 4, 32, 1, 1},
        {64, DAN_ROPE_YARN, 10000, 4, 1, 32, 64, 1.1386294361119891, 1},
        {34, DAN_ROPE_YARN_SMOOTH, 10000, 8, 1, 32, 4096, 1, 1},
        {64, DAN_ROPE_LLAMA3, 500000, 8, 1, 4, 8192, 1, 1},
        {32, DAN_ROPE_DYNAMIC, 10000, 2, 1, 4, 16, 1, 1},
    };
    if (i >= (int)(sizeof cases / sizeof *cases)) return false;
    struct dan_shape n = DAN_SHAPE(s->rows);
    bool dynamic = cases[i].kind == DAN_ROPE_DYNAMIC;
    s->no_grad = true;
    dan_ref pos = s->ints(s, n, i == 4 ? 100000 : 64, true);
    dan_ref start = dynamic ? s->ints(s, n, 8, true) : 0, stop = dynamic ? s->ints(s, n, 64, true) : 0;
    s->y = dan_rope_table(s->b, pos, start, stop, &cases[i]);
    return true;
}

DAN_OP(rope_table) = {
    .name = "rope_table",
    .doc = "cosines and sines of rotary positions, [N,R]",
    .n_in = 3,
    .n_opt = 2,
    .props = DAN_OP_NO_GRAD,
    .attrs = {{"dim", 'i'}, {"kind", 'i'}, {"base", 'f'}, {"factor", 'f'}, {"low", 'f'}, {"high", 'f'}, {"original", 'f'}, {"by", 'f'}},
    .infer = infer,
    .ref = ref,
    .cost = cost,
    .sample = sample,
};
