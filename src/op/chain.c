/* chain: pointwise ops of any number in one pass over memory.  The body is the graph of one row: its i-th input is the
 * last dimension of the chain's i-th input, its outputs are the last dimensions of the chain's outputs.  in[0] is [.., C]
 * and tells the rows; another input with the same leading dims is read row by row, all others (a bias [C], a scalar [1],
 * a dropout seed) whole by every row.  The executor runs each op of the body with that op's own kernel on a few rows at
 * a time that stay in L1: bit for bit what the ops give one by one. */
#include "op/chain.h"
#include "op/node.h"

static int check_input(const struct dan_graph *g, const struct dan_node *n, int i, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, i), *in = &n->body->node[i + 1];
    bool whole = !dan_chain_per_row(&x->shape, &dan_in(g, n, 0)->shape), row = in->shape.n == 1 && x->shape.n >= 1;
    if (!dan_op_is(in, "input") || in->dtype != x->dtype || !row || in->shape.d[0] != x->shape.d[x->shape.n - 1])
        return dan_infer_fail(n, e, "input %d does not fit the body's input '%s'", i, in->name ? in->name : "?");
    if (whole && dan_shape_count(&x->shape) != in->shape.d[0])
        return dan_infer_fail(n, e, "input %d has neither the rows of input 0 nor one row", i);
    return DAN_OK;
}

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    if (!n->body || n->n_in < 1 || n->body->n <= n->n_in + 1 || n->body->n_out < 1 || n->body->n_out > DAN_MAX_OUT)
        return dan_infer_fail(n, e, "the body's inputs or outputs do not match");
    struct dan_shape s = dan_in(g, n, 0)->shape;
    if (s.n < 2) return dan_infer_fail(n, e, "the first input must have rows: two dimensions or more");
    for (int i = 0; i < n->n_in; i++)
        if (check_input(g, n, i, e)) return DAN_ESHAPE;
    int n_out = n->body->n_out;
    if (n_out > 1 && dan_node_parts(g, n, n_out, e)) return DAN_ENOMEM;
    for (int i = n_out - 1; i >= 0; i--) {
        const struct dan_node *y = &n->body->node[n->body->out[i]];
        if (y->shape.n != 1 || y->n_in == 0) return dan_infer_fail(n, e, "output %d of the body is not one computed row", i);
        s.d[s.n - 1] = y->shape.d[0];
        if (n_out > 1) n->part[i] = (struct dan_out){.dtype = y->dtype, .shape = s};
        n->dtype = y->dtype;
        n->shape = s;
    }
    n->n_out = n_out;
    return DAN_OK;
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    int64_t cols = n->shape.d[n->shape.n - 1];
    double rows = cols ? (double)(dan_shape_count(&n->shape) / cols) : 0;
    *flops = 0;
    for (int32_t i = n->n_in + 1; i < n->body->n; i++) {
        double f = 0, b = 0;
        if (n->body->node[i].op->cost) n->body->node[i].op->cost(n->body, &n->body->node[i], &f, &b);
        *flops += rows * f;
    }
    *bytes = dan_cost_bytes(g, n);
}

#ifndef DAN_REAL64
dan_ref dan_chain(struct dan_builder *b, const struct dan_graph *body, const dan_ref *in, int n_in)
{
    return dan_emit_body(b, &dan_op_chain, in, n_in, NULL, 0, body);
}
#endif

static dan_ref body_input(struct dan_builder *b, int i, const struct dan_dtype *t, int64_t d)
{
    const char *name[] = {"x0", "x1", "x2", "x3"};
    return dan_input(b, name[i], t, DAN_SHAPE(d), 0);
}

/* gelu(x + bias) * s, s a number a row; and, the second output, where it is not masked. */
static void gated(struct dan_builder *b, const struct dan_dtype *t, int64_t c)
{
    dan_ref x = body_input(b, 0, t, c), bias = body_input(b, 1, t, c), s = body_input(b, 2, t, 1);
    dan_ref mask = body_input(b, 3, &dan_dtype_i32, 1);
    dan_ref y = dan_mul(b, dan_gelu(b, dan_add(b, x, bias)), s);
    dan_output(b, "y", y);
    dan_output(b, "masked", dan_where(b, mask, y, dan_fill_like(b, x, 0)));
}

/* sqrt(max(x^2, w)) - dropout(x / 3). */
static void noisy(struct dan_builder *b, const struct dan_dtype *t, int64_t c)
{
    dan_ref x = body_input(b, 0, t, c), w = body_input(b, 1, t, 1), seed = body_input(b, 2, &dan_dtype_i32, 2);
    dan_ref root = dan_sqrt(b, dan_maximum(b, dan_mul(b, x, x), w));
    dan_output(b, "y", dan_sub(b, root, dan_dropout(b, dan_scale(b, x, 1.0 / 3), seed, 0.4)));
}

static bool sample(struct dan_sample *s, int i)
{
    const int64_t cols[] = {17, 33, 3000, 7};
    if (i >= 6) return false;
    int64_t c = cols[i / 2 < 2 ? i % 4 : i - 2];
    struct dan_graph *body = dan_graph_new_in(s->b->g->arena);
    struct dan_builder b;
    dan_builder_init(&b, body);
    s->no_grad = true;
    struct dan_shape n = i == 3 ? DAN_SHAPE(s->rows, 2, c) : DAN_SHAPE(s->rows, c), one = n;
    one.d[n.n - 1] = 1;
    dan_ref x = s->real(s, i == 4 ? DAN_SHAPE(s->rows, c + 9) : n, 1, true);
    if (i == 4) x = dan_slice(s->b, x, 1, 3, 3 + c);
    if (i % 2) {
        noisy(&b, s->dtype, c);
        dan_ref in[] = {x, s->real_away(s, DAN_SHAPE(1), .1, .2, false), s->values(s, DAN_SHAPE(2), (const int32_t[]){9 + i, 4}, false)};
        s->y = dan_chain(s->b, body, in, 3);
    } else {
        gated(&b, s->dtype, c);
        dan_ref in[] = {x, s->real(s, DAN_SHAPE(c), 1, false), s->real(s, one, 1, true), s->ints(s, one, 2, true)};
        s->y = dan_chain(s->b, body, in, 4);
    }
    return true;
}

DAN_OP(chain) = {
    .name = "chain", .doc = "pointwise ops in one pass over memory",
    .n_in = -1, .half_in = 0xffffffff, .half_out = (1u << DAN_MAX_OUT) - 1,
    .props = DAN_OP_BODY | DAN_OP_ELEMENTWISE | DAN_OP_INPLACE | DAN_OP_NO_GRAD | DAN_OP_STRIDED,
    .infer = infer, .cost = cost, .sample = sample,
};
