/* The gradient of fake_quant_step by its rule.  Parts: dx [N,K], and what each row and group adds to the scales' gradient
 * [N,K/group], times gain.  With u = x / s:
 *   CLIP   dx = dy 1[lo <= round(u) <= hi]                                           ds = 0
 *   PACT   dx = dy 1[lo < u < hi]      ds = dy (lo below, hi above, 0 inside): the derivative of clip(x, lo s, hi s)
 *   LSQ    dx = dy 1[lo < u < hi]      ds = dy (lo below, hi above, round(u) - u inside)
 *   DSQ    dx = dy f'(u) inside        ds = dy (lo below, hi above, f(u) - u f'(u) inside), f the soft staircase */
#include "op/fake_quant.h"
#include "op/node.h"
#include "op/staircase.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *dy = dan_in(g, n, 2);
    if (!dan_is_float(x->dtype) || x->shape.n != 2 || dy->dtype != x->dtype || !dan_shape_equal(&x->shape, &dy->shape))
        return dan_infer_fail(n, e, "x and dy must be [N,K] of one float type");
    int64_t k = x->shape.d[1], group = n->attr[DAN_QUANT_GROUP].i ? n->attr[DAN_QUANT_GROUP].i : k;
    if (!steps_fit(x, dan_in(g, n, 1), group)) return dan_infer_fail(n, e, "scales must be '%s' [1] or a number for every row and group", x->dtype->name);
    int rc = dan_node_parts(g, n, 2, e);
    if (rc) return rc;
    dan_node_part(n, 0, x->dtype, x->shape);
    dan_node_part(n, 1, x->dtype, DAN_SHAPE(x->shape.d[0], group ? k / group : 0));
    return DAN_OK;
}

struct slopes { real x, s; };
struct rule { enum dan_quant_rule kind; real lo, hi; struct staircase stairs; };

static struct slopes inside(const struct rule *r, real u)
{
    if (r->kind != DAN_RULE_DSQ) return (struct slopes){1, r->kind == DAN_RULE_LSQ ? round_even(u) - u : 0};
    struct stair f = staircase_at(&r->stairs, u);
    return (struct slopes){f.slope, f.f - u * f.slope};
}

static struct slopes slopes_at(const struct rule *r, real u)
{
    if (r->kind == DAN_RULE_PASS) return (struct slopes){1, 0};
    if (r->kind == DAN_RULE_CLIP) return (struct slopes){round_even(u) >= r->lo && round_even(u) <= r->hi, 0};
    if (u <= r->lo) return (struct slopes){0, r->lo};
    if (u >= r->hi) return (struct slopes){0, r->hi};
    return inside(r, u);
}

static real group_grad(const struct rule *r, const real *x, const real *dy, real *dx, int64_t n, real step)
{
    real sum = 0;
    for (int64_t i = 0; i < n; i++) {
        struct slopes d = slopes_at(r, x[i] / step);
        sum += dy[i] * d.s;
        dx[i] = dy[i] * d.x;
    }
    return sum;
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *dx = &a->out[0], *ds = &a->out[1];
    const struct steps s = steps_of(a);
    const int64_t bits = a->attr[DAN_QUANT_BITS].i;
    const struct rule r = {(enum dan_quant_rule)a->attr[DAN_QUANT_RULE].i, (real)dan_quant_lo(bits, s.form), (real)dan_quant_hi(bits),
                           staircase_of((real)a->attr[DAN_QUANT_SLOPE].f)};
    const real gain = (real)a->attr[DAN_QUANT_GAIN].f;
    int64_t lo, hi, cols = dan_cols(x);
    dan_share(a, dan_rows(x), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        for (int64_t c = 0; c < cols; c += s.group)
            ((real *)dan_row(ds, i))[c / s.group] =
                gain * group_grad(&r, (const real *)dan_row(x, i) + c, (const real *)dan_row(&a->in[2], i) + c, (real *)dan_row(dx, i) + c,
                                  s.group, step_at(&s, i, c / s.group));
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 8, flops, bytes);
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
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, cases[i].k), 1, true), dy = s->real(s, DAN_SHAPE(s->rows, cases[i].k), 1, true);
    dan_ref step = cases[i].one ? s->real_away(s, DAN_SHAPE(1), 0.05, 0.2, false)
                                : s->real_away(s, DAN_SHAPE(s->rows, q.group ? cases[i].k / q.group : 1), 0.1, 0.6, true);
    const union dan_attr attr[] = {DAN_I(q.bits), DAN_I(q.group), DAN_I(q.form), DAN_I(cases[i].rule), DAN_F(0.2), DAN_F(0.5)};
    s->y = dan_emit(s->b, &dan_op_fake_quant_step_grad, (const dan_ref[]){x, step, dy}, 3, attr, 6);
    return true;
}

DAN_OP(fake_quant_step_grad) = {
    .name = "fake_quant_step_grad", .doc = "gradients of fake_quant_step for x and, by row and group, for the scales",
    .n_in = 3, .props = DAN_OP_NO_GRAD,
    .attrs = {{"bits", 'i'}, {"group", 'i'}, {"form", 'i'}, {"rule", 'i'}, {"slope", 'f'}, {"gain", 'f'}},
    .infer = infer, .ref = ref, .cost = cost, .sample = sample,
};
