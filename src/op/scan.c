/* scan: the loop over time (R6).  carry_{t+1}, y_t = body(carry_t, x_t, const), t = 0..T-1.
 * Parts: the history [T+1,...] of every carry, then the ys stacked [T,...].  The executor runs
 * the body; autodiff differentiates it (a second scan over the differentiated body). */
#include "op/op.h"

static int check_input(const struct dan_graph *g, struct dan_node *n, int i, struct dan_err *e)
{
    int carries = (int)n->attr[DAN_SCAN_CARRIES].i, xs = (int)n->attr[DAN_SCAN_XS].i;
    const struct dan_node *x = dan_in(g, n, i), *in = &n->body->node[i + 1];
    bool is_x = i >= carries && i < carries + xs;
    struct dan_shape s = x->shape;
    if (is_x) {
        if (s.n < 2) return dan_infer_fail(n, e, "x %d must have a leading time dimension and at least one more", i - carries);
        for (int k = 0; k + 1 < s.n; k++) s.d[k] = s.d[k + 1];
        s.n--;
    }
    if (!dan_op_is(in, "input") || in->dtype != x->dtype || !dan_shape_equal(&in->shape, &s))
        return dan_infer_fail(n, e, "input %d does not fit the body's input '%s'", i, in->name ? in->name : "?");
    return DAN_OK;
}

static struct dan_shape with_time(const struct dan_shape *s, int64_t t)
{
    struct dan_shape r = {.n = s->n + 1};
    r.d[0] = t;
    for (int i = 0; i < s->n; i++) r.d[i + 1] = s->d[i];
    return r;
}

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    int carries = (int)n->attr[DAN_SCAN_CARRIES].i, xs = (int)n->attr[DAN_SCAN_XS].i, ys = (int)n->attr[DAN_SCAN_YS].i;
    if (!n->body || n->body->n_out != carries + ys || n->n_in < carries + xs || n->body->n <= n->n_in || xs < 1)
        return dan_infer_fail(n, e, "the body's inputs or outputs do not match %d carries, %d xs, %d ys", carries, xs, ys);
    if (carries + ys > DAN_MAX_OUT) return dan_infer_fail(n, e, "%d carries and ys are more than %d", carries + ys, DAN_MAX_OUT);
    for (int i = 0; i < n->n_in; i++) {
        int rc = check_input(g, n, i, e);
        if (rc) return rc;
    }
    int64_t t = dan_in(g, n, carries)->shape.d[0];
    if (!n->part) n->part = dan_arena_alloc(g->arena, sizeof *n->part * (size_t)(carries + ys));
    if (!n->part) return dan_fail(e, DAN_ENOMEM, "not enough memory for a scan");
    n->n_out = carries + ys;
    for (int i = 0; i < carries + ys; i++) {
        const struct dan_node *o = &n->body->node[n->body->out[i]];
        n->part[i].dtype = o->dtype;
        n->part[i].shape = with_time(&o->shape, i < carries ? t + 1 : t);
        if (i < carries && (o->dtype != dan_in(g, n, i)->dtype || !dan_shape_equal(&o->shape, &dan_in(g, n, i)->shape)))
            return dan_infer_fail(n, e, "carry %d changes its shape or dtype", i);
    }
    n->dtype = n->part[0].dtype;
    n->shape = n->part[0].shape;
    return DAN_OK;
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    double t = (double)dan_in(g, n, (int)n->attr[DAN_SCAN_CARRIES].i)->shape.d[0];
    *flops = *bytes = 0;
    for (int32_t i = 1; i < n->body->n; i++) {
        const struct dan_node *m = &n->body->node[i];
        double f = 0, b = 0;
        if (m->op->cost) m->op->cost(n->body, m, &f, &b);
        *flops += t * f;
        *bytes += t * b;
    }
}

#ifndef DAN_REAL64
dan_ref dan_scan(struct dan_builder *b, const struct dan_graph *body, const dan_ref *in, int n_in, int n_carries, int n_xs, int n_ys, bool reverse)
{
    union dan_attr a[] = {DAN_I(n_carries), DAN_I(n_xs), DAN_I(n_ys), DAN_I(reverse)};
    return dan_emit_body(b, &dan_op_scan, in, n_in, a, 4, body);
}
#endif

static dan_ref body_cell(struct dan_builder *b, const struct dan_dtype *t, int64_t lanes, int64_t c, int64_t h)
{
    dan_ref state = dan_input(b, "h", t, DAN_SHAPE(lanes, h), 0), x = dan_input(b, "x", t, DAN_SHAPE(lanes, c), 0);
    dan_ref wx = dan_input(b, "wx", t, DAN_SHAPE(h, c), 0), wh = dan_input(b, "wh", t, DAN_SHAPE(h, h), 0);
    return dan_tanh(b, dan_add(b, dan_matmul(b, x, wx, 0, 1), dan_matmul(b, state, wh, 0, 1)));
}

/* h' = tanh(Wx x + Wh h), y = h'^2: forward and reversed. */
static bool sample(struct dan_sample *s, int i)
{
    enum { LANES = 3, C = 4, HID = 5 };
    if (i > 1) return false;
    struct dan_graph *body = dan_graph_new_in(s->b->g->arena);
    struct dan_builder bb;
    dan_builder_init(&bb, body);
    dan_ref h = body_cell(&bb, s->dtype, LANES, C, HID);
    dan_output(&bb, "h", h);
    dan_output(&bb, "y", dan_mul(&bb, h, h));
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, LANES, C), 1, true), h0 = s->real(s, DAN_SHAPE(LANES, HID), 1, false);
    dan_ref in[] = {h0, x, s->real(s, DAN_SHAPE(HID, C), .5, false), s->real(s, DAN_SHAPE(HID, HID), .5, false)};
    s->y = dan_scan(s->b, body, in, 4, 1, 1, 1, i == 1);
    return true;
}

DAN_OP(scan) = {
    .name = "scan", .doc = "loop over the leading dimension with carried state",
    .n_in = -1, .props = DAN_OP_BODY, .attrs = {{"carries", 'i'}, {"xs", 'i'}, {"ys", 'i'}, {"reverse", 'i'}},
    .infer = infer, .cost = cost, .sample = sample,
};
