/* DSQ with its soft forward: y = s f(clip(x / s, lo, hi)), f the soft staircase with steepness slope [1] (Gong et al. 2019;
 * staircase.h).  Differentiable in x, s and slope, so training can sharpen it; evaluation uses fake_quant_step. */
#include "op/fake_quant.h"
#include "op/node.h"
#include "op/staircase.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *s = dan_in(g, n, 1);
    int64_t bits = n->attr[DAN_QUANT_BITS].i, k = x->shape.n ? x->shape.d[x->shape.n - 1] : 1;
    int64_t group = n->attr[DAN_QUANT_GROUP].i ? n->attr[DAN_QUANT_GROUP].i : k;
    if (bits < 2 || bits > 16) return dan_infer_fail(n, e, "%lld bits: use 2 to 16", (long long)bits);
    if (x->shape.n != 2 || group < 0 || (group && k % group))
        return dan_infer_fail(n, e, "x must be [N,K] with groups of %lld that divide K", (long long)group);
    if (!steps_fit(x, s, group))
        return dan_infer_fail(n, e, "scales must be '%s' [1] or a number for every row and group", x->dtype->name);
    if (!dan_is_vector(dan_in(g, n, 2), x->dtype, 1)) return dan_infer_fail(n, e, "the steepness must be '%s' [1]", x->dtype->name);
    return dan_infer_float(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const struct steps s = steps_of(a);
    const struct staircase f = staircase_of(((const real *)a->in[2].data)[0]);
    const real bottom = (real)dan_quant_lo(a->attr[DAN_QUANT_BITS].i, s.form), top = (real)dan_quant_hi(a->attr[DAN_QUANT_BITS].i);
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c++) {
            const real step = step_at(&s, r, c / s.group), u = xr[c] / step;
            yr[c] = step * (u <= bottom ? bottom : u >= top ? top : staircase_at(&f, u).f);
        }
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);        /* a copy: appending moves the nodes */
    bool one = dan_shape_at(b, n.in[1])->n == 1;
    dan_ref g = dan_emit(b, &dan_op_fake_quant_soft_grad, (const dan_ref[]){n.in[0], n.in[1], n.in[2], dy[0]}, 4, n.attr, 3);
    dx[0] = dan_pick(b, g, 0);
    dx[1] = one ? dan_sum_all(b, dan_pick(b, g, 1)) : dan_pick(b, g, 1);
    dx[2] = dan_sum_all(b, dan_pick(b, g, 2));
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 20, flops, bytes);
}

/* Scales between 0.1 and 0.3 and |x| up to 2 reach both clips at two and three bits. */
static bool sample(struct dan_sample *s, int i)
{
    const struct { int64_t k; bool one; struct dan_quant_grid q; } cases[] = {
        {17, true, {4, 0, 0}}, {24, false, {3, 8, 0}}, {10, false, {2, 0, DAN_QUANT_FULL}},
    };
    if (i > 2) return false;
    const struct dan_quant_grid q = cases[i].q;
    dan_ref x = s->real_away(s, DAN_SHAPE(s->rows, cases[i].k), 0.02, 2, true);
    dan_ref step = cases[i].one ? s->real_away(s, DAN_SHAPE(1), 0.1, 0.3, false)
                                : s->real_away(s, DAN_SHAPE(s->rows, q.group ? cases[i].k / q.group : 1), 0.1, 0.3, true);
    step = dan_sqrt(s->b, dan_mul(s->b, step, step));          /* real_away gives both signs */
    dan_ref slope = s->real_away(s, DAN_SHAPE(1), 0.1, 0.4, false);
    s->y = dan_fake_quant_soft(s->b, x, step, dan_sqrt(s->b, dan_mul(s->b, slope, slope)), q);
    return true;
}

DAN_OP(fake_quant_soft) = {
    .name = "fake_quant_soft", .doc = "DSQ's soft staircase of given scales and steepness",
    .n_in = 3, .props = DAN_OP_INPLACE, .attrs = {{"bits", 'i'}, {"group", 'i'}, {"form", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
