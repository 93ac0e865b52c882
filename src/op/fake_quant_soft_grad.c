/* The gradient of fake_quant_soft.  Parts: dx [N,K]; what each row and group adds to the gradients of the scales and of the
 * steepness, [N,K/group] each.  With u = x / s inside the levels (k / s of the paper depends on the steepness only):
 *   dx = dy f'(u)   ds = dy (f(u) - u f'(u))   dslope = dy s df/da;   outside dx = 0, ds = dy lo or dy hi. */
#include "op/fake_quant.h"
#include "op/node.h"
#include "op/staircase.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *dy = dan_in(g, n, 3);
    if (!dan_is_float(x->dtype) || x->shape.n != 2 || dy->dtype != x->dtype || !dan_shape_equal(&x->shape, &dy->shape))
        return dan_infer_fail(n, e, "x and dy must be [N,K] of one float type");
    int64_t k = x->shape.d[1], group = n->attr[DAN_QUANT_GROUP].i ? n->attr[DAN_QUANT_GROUP].i : k;
    if (!steps_fit(x, dan_in(g, n, 1), group) || !dan_is_vector(dan_in(g, n, 2), x->dtype, 1))
        return dan_infer_fail(n, e, "scales must be '%s' [1] or a number for every row and group, the steepness [1]", x->dtype->name);
    int rc = dan_node_parts(g, n, 3, e);
    if (rc) return rc;
    dan_node_part(n, 0, x->dtype, x->shape);
    for (int i = 1; i < 3; i++) dan_node_part(n, i, x->dtype, DAN_SHAPE(x->shape.d[0], group ? k / group : 0));
    return DAN_OK;
}

struct sums { real s, a; };
static struct sums group_grad(const struct staircase *f, const real *x, const real *dy, real *dx, int64_t n, real step, real lo, real hi)
{
    struct sums sum = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        const real u = x[i] / step;
        const bool in = u > lo && u < hi;
        const struct stair at = staircase_at(f, in ? u : 0);
        sum.s += dy[i] * (in ? at.f - u * at.slope : u <= lo ? lo : hi);
        sum.a += in ? dy[i] * step * at.by_a : 0;
        dx[i] = in ? dy[i] * at.slope : 0;
    }
    return sum;
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0];
    const struct steps s = steps_of(a);
    const struct staircase f = staircase_of(((const real *)a->in[2].data)[0]);
    const real bottom = (real)dan_quant_lo(a->attr[DAN_QUANT_BITS].i, s.form), top = (real)dan_quant_hi(a->attr[DAN_QUANT_BITS].i);
    int64_t lo, hi, cols = dan_cols(x);
    dan_share(a, dan_rows(x), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        for (int64_t c = 0; c < cols; c += s.group) {
            struct sums d = group_grad(&f, (const real *)dan_row(x, r) + c, (const real *)dan_row(&a->in[3], r) + c,
                                       (real *)dan_row(&a->out[0], r) + c, s.group, step_at(&s, r, c / s.group), bottom, top);
            ((real *)dan_row(&a->out[1], r))[c / s.group] = d.s;
            ((real *)dan_row(&a->out[2], r))[c / s.group] = d.a;
        }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 25, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const struct { int64_t k; bool one; struct dan_quant_grid q; } cases[] = {
        {17, true, {4, 0, 0}}, {24, false, {3, 8, 0}}, {10, false, {2, 0, DAN_QUANT_FULL | DAN_QUANT_F16}},
    };
    if (i > 2) return false;
    s->no_grad = true;
    const struct dan_quant_grid q = cases[i].q;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, cases[i].k), 1, true), dy = s->real(s, DAN_SHAPE(s->rows, cases[i].k), 1, true);
    dan_ref step = cases[i].one ? s->real_away(s, DAN_SHAPE(1), 0.1, 0.3, false)
                                : s->real_away(s, DAN_SHAPE(s->rows, q.group ? cases[i].k / q.group : 1), 0.1, 0.3, true);
    const union dan_attr attr[] = {DAN_I(q.bits), DAN_I(q.group), DAN_I(q.form)};
    dan_ref slope = s->real_away(s, DAN_SHAPE(1), 0.1, 0.4, false);
    s->y = dan_emit(s->b, &dan_op_fake_quant_soft_grad, (const dan_ref[]){x, step, slope, dy}, 4, attr, 3);
    return true;
}

DAN_OP(fake_quant_soft_grad) = {
    .name = "fake_quant_soft_grad", .doc = "gradients of fake_quant_soft for x and, by row and group, for scales and steepness",
    .n_in = 4, .props = DAN_OP_NO_GRAD, .attrs = {{"bits", 'i'}, {"group", 'i'}, {"form", 'i'}},
    .infer = infer, .ref = ref, .cost = cost, .sample = sample,
};
