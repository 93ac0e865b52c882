/* Rotary positions, in halves as Hugging Face stores them: for i < D/2 of every head,
 *   angle = pos * base^(-2i/D);  y[i] = x[i] cos - x[i+D/2] sin;  y[i+D/2] = x[i+D/2] cos + x[i] sin.
 * backward rotates by -angle, which is the gradient (the rotation is orthogonal).  Angles are computed in
 * double: in float, position 100000 would be off by 0.004 rad.  Su et al. 2021, "RoFormer". */
#include "op/op.h"
#include "op/node.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *pos = dan_in(g, n, 1);
    int64_t d = n->attr[DAN_ROPE_DIM].i;
    if (!dan_is_float(x->dtype) || x->shape.n != 2) return dan_infer_fail(n, e, "x must be f32 or f64 [N,H*D]");
    if (d <= 0 || d % 2 || x->shape.d[1] % d)
        return dan_infer_fail(n, e, "head dim %lld does not fit %lld columns: it must be even and divide them",
                              (long long)d, (long long)x->shape.d[1]);
    if (pos->dtype != &dan_dtype_i32 || pos->shape.n != 1 || pos->shape.d[0] != x->shape.d[0])
        return dan_infer_fail(n, e, "pos must be i32 [%lld], one position a row", (long long)x->shape.d[0]);
    return dan_infer_same(g, n, e);
}

static void rotate_row(const real *x, real *y, int64_t c, int64_t d, int32_t pos, double base, double sign)
{
    for (int64_t i = 0; i < d / 2; i++) {
        double angle = sign * pos * pow(base, -2.0 * (double)i / (double)d);
        real cs = (real)cos(angle), sn = (real)sin(angle);
        for (int64_t h = i; h < c; h += d) {
            real x0 = x[h], x1 = x[h + d / 2];
            y[h] = x0 * cs - x1 * sn;
            y[h + d / 2] = x1 * cs + x0 * sn;
        }
    }
}

static void ref(const struct dan_args *a)
{
    const int32_t *pos = a->in[1].data;
    int64_t lo, hi;
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        rotate_row(dan_row(&a->in[0], r), dan_row(&a->out[0], r), dan_cols(&a->in[0]), a->attr[DAN_ROPE_DIM].i, pos[r],
                   a->attr[DAN_ROPE_BASE].f, a->attr[DAN_ROPE_BACKWARD].i ? -1 : 1);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);
    dx[0] = dan_rope(b, dy[0], n.in[1], n.attr[DAN_ROPE_DIM].i, n.attr[DAN_ROPE_BASE].f, !n.attr[DAN_ROPE_BACKWARD].i);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 3, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const int64_t dim[] = {8, 6, 64, 32}, heads[] = {3, 1, 2, 2};
    if (i >= 4) return false;
    int64_t c = dim[i] * heads[i];
    dan_ref x = dan_sample_columns(s, c, i == 0);
    s->y = dan_rope(s->b, x, s->ints(s, DAN_SHAPE(s->rows), i == 2 ? 100000 : 64, true), dim[i], i == 1 ? 500000 : 10000, i == 3);
    return true;
}

DAN_OP(rope) = {
    .name = "rope",
    .doc = "rotates the halves of every head by position",
    .n_in = 2, .half_in = 0x1, .half_out = 0x1, .props = DAN_OP_ROWWISE | DAN_OP_STRIDED,
    .attrs = {{"dim", 'i'}, {"base", 'f'}, {"backward", 'i'}},
    .infer = infer,
    .ref = ref,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
