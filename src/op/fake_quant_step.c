/* y = s clip(round(x / s), lo, hi) of x [N,K] with scales from outside: s [1] for all, or [N,K/group] by row and group.
 * Levels and forms: core/fake_quant.h.  s is used as |s|, at least 1e-30, with DAN_QUANT_F16 as f16 keeps it.
 *
 * What goes back is a choice (enum dan_quant_rule), made in fake_quant_step_grad: the true derivative of round is 0. */
#include "op/fake_quant.h"
#include "op/node.h"
#include "op/staircase.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *s = dan_in(g, n, 1);
    int64_t bits = n->attr[DAN_QUANT_BITS].i, rule = n->attr[DAN_QUANT_RULE].i, k = x->shape.n ? x->shape.d[x->shape.n - 1] : 1;
    int64_t group = n->attr[DAN_QUANT_GROUP].i ? n->attr[DAN_QUANT_GROUP].i : k;
    if (bits < 2 || bits > 16) return dan_infer_fail(n, e, "%lld bits: use 2 to 16", (long long)bits);
    if (rule < 0 || rule >= DAN_N_RULES) return dan_infer_fail(n, e, "rule %lld does not exist: use one of enum dan_quant_rule", (long long)rule);
    if (x->shape.n != 2) return dan_infer_fail(n, e, "x has %d dimensions: give it two", (int)x->shape.n);
    if (group < 0 || (group && k % group))
        return dan_infer_fail(n, e, "group %lld does not divide rows of %lld: choose a divisor, or 0 for whole rows", (long long)group, (long long)k);
    if (!steps_fit(x, s, group))
        return dan_infer_fail(n, e, "scales must be '%s' [1] or [%lld,%lld]", x->dtype->name, (long long)x->shape.d[0],
                              (long long)(group ? k / group : 0));
    return dan_infer_float(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const struct steps s = steps_of(a);
    const real bottom = (real)dan_quant_lo(a->attr[DAN_QUANT_BITS].i, s.form), top = (real)dan_quant_hi(a->attr[DAN_QUANT_BITS].i);
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c += s.group) {
            const real step = step_at(&s, r, c / s.group);
            for (int64_t j = c; j < c + s.group; j++) yr[j] = step * round_even(clip_to(xr[j] / step, bottom, top));
        }
    }
}

/* Scales of one row and group get their own sum; one scale for all gets the sum of the rows' sums. */
static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);        /* a copy: appending moves the nodes */
    if (n.attr[DAN_QUANT_RULE].i == DAN_RULE_PASS) {
        dx[0] = dy[0];
        return;
    }
    bool one = dan_shape_at(b, n.in[1])->n == 1;
    dan_ref g = dan_emit(b, &dan_op_fake_quant_step_grad, (const dan_ref[]){n.in[0], n.in[1], dy[0]}, 3, n.attr, 6);
    dx[0] = dan_pick(b, g, 0);
    if (n.attr[DAN_QUANT_RULE].i != DAN_RULE_CLIP) dx[1] = one ? dan_sum_all(b, dan_pick(b, g, 1)) : dan_pick(b, g, 1);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 4, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { int64_t k; bool one; struct dan_quant_grid q; enum dan_quant_rule rule; } cases[] = {
        {17, true, {8, 0, 0}, DAN_RULE_LSQ},  {64, false, {4, 32, DAN_QUANT_FULL}, DAN_RULE_LSQ},
        {33, false, {2, 11, 0}, DAN_RULE_PACT}, {40, false, {3, 0, DAN_QUANT_F16}, DAN_RULE_DSQ}, {64, true, {4, 0, 0}, DAN_RULE_CLIP},
    };
    if (i > 4) return false;
    s->no_grad = true;
    const struct dan_quant_grid q = cases[i].q;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, cases[i].k), 1, true);
    dan_ref step = cases[i].one ? s->real_away(s, DAN_SHAPE(1), 0.05, 0.2, false)
                                : s->real_away(s, DAN_SHAPE(s->rows, q.group ? cases[i].k / q.group : 1), 0.1, 0.6, true);
    s->y = dan_fake_quant_step(s->b, x, step, q, cases[i].rule, 0.2, 1);
    return true;
}

DAN_OP(fake_quant_step) = {
    .name = "fake_quant_step", .doc = "rounds to multiples of given scales; gradient by rule: straight-through, clipped, PACT, LSQ, DSQ",
    .n_in = 2, .props = DAN_OP_INPLACE,
    .attrs = {{"bits", 'i'}, {"group", 'i'}, {"form", 'i'}, {"rule", 'i'}, {"slope", 'f'}, {"gain", 'f'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
