/* Reverse-mode differentiation: appends the gradient of output `loss` for every unfrozen param P
 * as output "grad:P".  Ops bring their vjp; this file knows only pick and scan by name.
 *
 * scan: with carry_{t+1}, y_t = f(carry_t, x_t, c), the adjoint runs the other way:
 *   (dcarry_t, dx_t, dc) += f'(carry_t, x_t, c)^T (dcarry_{t+1}, dy_t)
 * a second scan whose body recomputes f from the stored carry history and then sweeps it. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"
#include "pass/origin.h"
#include "pass/pass.h"

struct sweep {
    struct dan_builder *b;
    int32_t  n;                                /* nodes to differentiate: 1..n-1 */
    bool    *wants;                            /* node needs a gradient */
    dan_ref (*grad)[DAN_MAX_OUT];              /* of each part; 0 = none yet */
};

static int sweep_init(struct sweep *s, struct dan_builder *b)
{
    s->b = b;
    s->n = b->g->n;
    s->wants = dan_calloc((size_t)s->n, sizeof *s->wants);
    s->grad = dan_calloc((size_t)s->n, sizeof *s->grad);
    return s->wants && s->grad ? DAN_OK : DAN_ENOMEM;
}

static void sweep_release(struct sweep *s)
{
    dan_free(s->wants);
    dan_free(s->grad);
}

static bool is_real(const struct dan_dtype *t) { return t == &dan_dtype_f32 || t == &dan_dtype_f64; }

/* A node needs a gradient when one of its inputs does and its result is a number.  An op that has none to give but is
 * on the way from a param to the loss is an error, never a silent zero: see diff_node. */
static void spread_wants(struct sweep *s)
{
    const struct dan_graph *g = s->b->g;
    for (int32_t i = 1; i < s->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (n->n_in == 0 || !(is_real(n->dtype) || n->n_out > 1)) continue;
        for (int k = 0; k < n->n_in; k++) s->wants[i] = s->wants[i] || (n->in[k] && s->wants[n->in[k]]);
    }
}

static void accumulate(struct sweep *s, dan_ref to, int part, dan_ref g)
{
    if (!g || !to) return;
    if (dan_op_is(dan_at(s->b->g, to), "pick")) {
        part = (int)dan_at(s->b->g, to)->attr[DAN_PICK_INDEX].i;
        to = dan_at(s->b->g, to)->in[0];
    }
    if (!s->wants[to]) return;
    dan_ref *slot = &s->grad[to][part];
    *slot = *slot ? dan_add(s->b, *slot, g) : g;
}

static void diff_scan(struct sweep *s, dan_ref i);

static void diff_node(struct sweep *s, dan_ref i)
{
    const struct dan_node n = s->b->g->node[i];             /* a copy: the array may move */
    bool any = false;
    for (int k = 0; k < n.n_out && k < DAN_MAX_OUT; k++) any = any || s->grad[i][k];
    if (!any || !s->wants[i] || n.n_in == 0 || dan_op_is(&n, "pick")) return;
    s->b->layer = n.layer;
    s->b->where = n.where;
    if (n.op->props & DAN_OP_BODY) {
        diff_scan(s, i);
        return;
    }
    if (!n.op->vjp) {
        dan_poison(s->b, DAN_EUNSUPPORTED, "op '%s' has no gradient", n.op->name);
        return;
    }
    dan_ref *dx = dan_calloc((size_t)n.n_in, sizeof *dx);
    if (!dx) {
        dan_poison(s->b, DAN_ENOMEM, "not enough memory to differentiate");
        return;
    }
    n.op->vjp(s->b, i, s->grad[i], dx);
    for (int k = 0; k < n.n_in; k++) accumulate(s, n.in[k], 0, dx[k]);
    dan_free(dx);
}

/* Nodes from `made` on are the gradient of i. */
static void gradient_of(struct dan_graph *g, dan_ref i, int32_t made)
{
    const dan_ref *origin = made < g->n ? dan_origin_gradient(g->arena, g->node[i].origin) : NULL;
    for (; made < g->n; made++) g->node[made].origin = origin;
}

static void run_sweep(struct sweep *s)
{
    for (int32_t i = s->n - 1; i > 0 && !s->b->err.code; i--) {
        int32_t made = s->b->g->n;
        diff_node(s, i);
        gradient_of(s->b->g, i, made);
    }
}

/* ---- scan ---------------------------------------------------------------------------------- */

struct scan_shape { int carries, xs, ys, n_in, consts; bool reverse; };

static struct scan_shape shape_of(const struct dan_node *n)
{
    struct scan_shape c = {(int)n->attr[DAN_SCAN_CARRIES].i, (int)n->attr[DAN_SCAN_XS].i, (int)n->attr[DAN_SCAN_YS].i, n->n_in, 0, n->attr[DAN_SCAN_REVERSE].i};
    c.consts = c.n_in - c.carries - c.xs;
    return c;
}

/* Copies the body's nodes into the gradient body; its inputs are already mapped. */
static void clone_body(struct dan_builder *b, const struct dan_graph *body, dan_ref *map, int n_inputs)
{
    for (int32_t i = n_inputs + 1; i < body->n && !b->err.code; i++) {
        const struct dan_node *n = &body->node[i];
        dan_ref in[64];
        DAN_ASSERT(n->n_in <= 64);
        for (int k = 0; k < n->n_in; k++) in[k] = n->in[k] ? map[n->in[k]] : 0;
        map[i] = dan_emit_body(b, n->op, in, n->n_in, n->attr, DAN_MAX_ATTR, n->body);
    }
}

/* What the gradient scan reads and gives, counted once. */
struct plan {
    struct scan_shape c;
    bool want_in[64];                          /* forward input k needs a gradient */
    bool has_hist[DAN_MAX_OUT], has_dy[DAN_MAX_OUT];
};

static struct dan_graph *grad_body(struct sweep *s, const struct dan_node *n, const struct plan *p);
static void declare(struct dan_builder *b, const char *kind, int i, const struct dan_node *like, dan_ref *out)
{
    char name[32];
    snprintf(name, sizeof name, "%s%d", kind, i);
    *out = dan_input(b, name, like->dtype, like->shape, 0);
}

struct body_in { dan_ref dcarry[16], dconst[64], hist[16], x[64], dhist[16], dy[16], c[64]; };

/* Order: carries (dcarry, dconst) | xs (history, x, dhist, dy) | consts. */
static void declare_inputs(struct dan_builder *b, const struct dan_graph *body, const struct plan *p, struct body_in *in)
{
    const struct scan_shape *c = &p->c;
    for (int i = 0; i < c->carries; i++) declare(b, "dcarry", i, &body->node[1 + i], &in->dcarry[i]);
    for (int i = 0; i < c->consts; i++)
        if (p->want_in[c->carries + c->xs + i]) declare(b, "dconst", i, &body->node[1 + c->carries + c->xs + i], &in->dconst[i]);
    for (int i = 0; i < c->carries; i++) declare(b, "carry", i, &body->node[1 + i], &in->hist[i]);
    for (int i = 0; i < c->xs; i++) declare(b, "x", i, &body->node[1 + c->carries + i], &in->x[i]);
    for (int i = 0; i < c->carries; i++)
        if (p->has_hist[i]) declare(b, "dhist", i, &body->node[1 + i], &in->dhist[i]);
    for (int i = 0; i < c->ys; i++)
        if (p->has_dy[i]) declare(b, "dy", i, &body->node[body->out[c->carries + i]], &in->dy[i]);
    for (int i = 0; i < c->consts; i++) declare(b, "const", i, &body->node[1 + c->carries + c->xs + i], &in->c[i]);
}

static dan_ref or_zero(struct dan_builder *b, dan_ref g, dan_ref like) { return g ? g : dan_fill_like(b, like, 0); }

static void emit_outputs(struct sweep *t, const struct plan *p, const struct body_in *in)
{
    const struct scan_shape *c = &p->c;
    for (int i = 0; i < c->carries; i++) dan_output(t->b, "dcarry", or_zero(t->b, t->grad[in->hist[i]][0], in->hist[i]));
    for (int i = 0; i < c->consts; i++) {
        if (!p->want_in[c->carries + c->xs + i]) continue;
        dan_ref g = t->grad[in->c[i]][0];
        dan_output(t->b, "dconst", g ? dan_add(t->b, in->dconst[i], g) : dan_copy(t->b, in->dconst[i]));
    }
    for (int i = 0; i < c->xs; i++)
        if (p->want_in[c->carries + i]) dan_output(t->b, "dx", or_zero(t->b, t->grad[in->x[i]][0], in->x[i]));
}

static struct dan_graph *grad_body(struct sweep *s, const struct dan_node *n, const struct plan *p)
{
    const struct dan_graph *body = n->body;
    const struct scan_shape *c = &p->c;
    struct dan_builder b;
    struct body_in in = {0};
    struct sweep t = {0};
    struct dan_graph *g = dan_graph_new_in(s->b->g->arena);
    dan_ref *map = dan_calloc((size_t)body->n, sizeof *map);
    if (!g || !map) goto fail;
    dan_builder_init(&b, g);
    declare_inputs(&b, body, p, &in);
    for (int i = 0; i < c->n_in; i++) map[i + 1] = i < c->carries ? in.hist[i] : i < c->carries + c->xs ? in.x[i - c->carries] : in.c[i - c->carries - c->xs];
    clone_body(&b, body, map, c->n_in);
    if (b.err.code || sweep_init(&t, &b)) goto fail;
    for (int i = 0; i < c->n_in; i++) t.wants[map[i + 1]] = i < c->carries || p->want_in[i];
    for (int i = 0; i < c->n_in; i++) t.wants[map[i + 1]] = t.wants[map[i + 1]] && is_real(g->node[map[i + 1]].dtype);
    spread_wants(&t);
    for (int i = 0; i < c->carries; i++) {
        dan_ref d = p->has_hist[i] ? dan_add(&b, in.dcarry[i], in.dhist[i]) : in.dcarry[i];
        accumulate(&t, map[body->out[i]], 0, d);
    }
    for (int i = 0; i < c->ys; i++)
        if (p->has_dy[i]) accumulate(&t, map[body->out[c->carries + i]], 0, in.dy[i]);
    run_sweep(&t);
    emit_outputs(&t, p, &in);
    sweep_release(&t);
    dan_free(map);
    if (dan_builder_check(&b, &s->b->err)) return NULL;
    return g;
fail:
    sweep_release(&t);
    dan_free(map);
    dan_poison(s->b, DAN_ENOMEM, "cannot differentiate the body of a scan: %s", g && b.err.code ? b.err.msg : "not enough memory");
    return NULL;
}

/* The inputs of the gradient scan, in the order of declare_inputs. */
static int outer_inputs(struct sweep *s, dan_ref i, const struct plan *p, dan_ref *in)
{
    const struct dan_node n = s->b->g->node[i];
    const struct scan_shape *c = &p->c;
    struct dan_builder *b = s->b;
    int k = 0;
    int64_t before0 = c->reverse ? 1 : 0, before1 = c->reverse ? DAN_END : -1;      /* carry into each step */
    int64_t after0 = c->reverse ? 0 : 1, after1 = c->reverse ? -1 : DAN_END;        /* carry out of each step */
    for (int j = 0; j < c->carries; j++) in[k++] = dan_fill_like(b, n.in[j], 0);
    for (int j = 0; j < c->consts; j++)
        if (p->want_in[c->carries + c->xs + j]) in[k++] = dan_fill_like(b, n.in[c->carries + c->xs + j], 0);
    for (int j = 0; j < c->carries; j++) in[k++] = dan_slice(b, dan_pick(b, i, j), 0, before0, before1);
    for (int j = 0; j < c->xs; j++) in[k++] = n.in[c->carries + j];
    for (int j = 0; j < c->carries; j++)
        if (p->has_hist[j]) in[k++] = dan_slice(b, s->grad[i][j], 0, after0, after1);
    for (int j = 0; j < c->ys; j++)
        if (p->has_dy[j]) in[k++] = s->grad[i][c->carries + j];
    for (int j = 0; j < c->consts; j++) in[k++] = n.in[c->carries + c->xs + j];
    return k;
}

static struct plan make_plan(struct sweep *s, dan_ref i)
{
    const struct dan_node *n = &s->b->g->node[i];
    struct plan p = {.c = shape_of(n)};
    DAN_ASSERT(n->n_in <= 64 && p.c.carries <= 16);
    for (int k = 0; k < n->n_in; k++) {
        dan_ref in = n->in[k];
        if (dan_op_is(dan_at(s->b->g, in), "pick")) in = dan_at(s->b->g, in)->in[0];
        p.want_in[k] = s->wants[in] && is_real(dan_at(s->b->g, n->in[k])->dtype);
    }
    for (int k = 0; k < p.c.carries; k++) p.has_hist[k] = s->grad[i][k];
    for (int k = 0; k < p.c.ys; k++) p.has_dy[k] = s->grad[i][p.c.carries + k];
    return p;
}

/* [1, ...] -> [...] of row `row` of a history. */
static dan_ref row_of(struct dan_builder *b, dan_ref hist, bool last)
{
    return dan_merge_dims(b, last ? dan_slice(b, hist, 0, -1, DAN_END) : dan_slice(b, hist, 0, 0, 1), 0);
}

static void diff_scan(struct sweep *s, dan_ref i)
{
    const struct dan_node n = s->b->g->node[i];
    struct plan p = make_plan(s, i);
    const struct scan_shape *c = &p.c;
    struct dan_graph *body = grad_body(s, &n, &p);
    if (!body) return;
    dan_ref in[256];
    int n_in = outer_inputs(s, i, &p, in), n_carries = c->carries, n_dx = 0, n_xs = c->carries + c->xs;
    for (int k = 0; k < c->consts; k++) n_carries += p.want_in[c->carries + c->xs + k];
    for (int k = 0; k < c->carries; k++) n_xs += p.has_hist[k];
    for (int k = 0; k < c->ys; k++) n_xs += p.has_dy[k];
    for (int k = 0; k < c->xs; k++) n_dx += p.want_in[c->carries + k];
    dan_ref y = dan_scan(s->b, body, in, n_in, n_carries, n_xs, n_dx, !c->reverse);
    if (!y) return;
    int part = 0;
    for (int k = 0; k < c->carries; k++, part++) {
        if (!p.want_in[k]) continue;
        dan_ref d = row_of(s->b, dan_pick(s->b, y, part), c->reverse);
        if (p.has_hist[k]) d = dan_add(s->b, d, row_of(s->b, s->grad[i][k], c->reverse));
        accumulate(s, n.in[k], 0, d);
    }
    for (int k = 0; k < c->consts; k++)
        if (p.want_in[c->carries + c->xs + k]) accumulate(s, n.in[c->carries + c->xs + k], 0, row_of(s->b, dan_pick(s->b, y, part++), c->reverse));
    for (int k = 0; k < c->xs; k++)
        if (p.want_in[c->carries + k]) accumulate(s, n.in[c->carries + k], 0, dan_pick(s->b, y, part++));
}

/* ---- the pass ------------------------------------------------------------------------------ */

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    dan_ref loss = dan_output_ref(g, o->loss ? o->loss : "loss");
    if (!loss) return dan_fail(e, DAN_EINVAL, "the graph has no output '%s' to differentiate", o->loss ? o->loss : "loss");
    struct dan_builder b;
    struct sweep s;
    dan_builder_init(&b, g);
    g->n_forward = g->n;
    int rc = sweep_init(&s, &b);
    if (rc) dan_fail(e, rc, "not enough memory to differentiate %d nodes", g->n);
    for (int32_t i = 1; i < g->n && !rc; i++) s.wants[i] = dan_op_is(&g->node[i], "param") && !g->node[i].frozen && is_real(g->node[i].dtype);
    if (!rc) {
        spread_wants(&s);
        accumulate(&s, loss, 0, dan_fill_like(&b, loss, 1));
        gradient_of(g, loss, s.n);
        run_sweep(&s);
        for (int32_t i = 1; i < s.n && !b.err.code; i++) {
            if (!dan_op_is(&g->node[i], "param") || !s.wants[i]) continue;
            const char *name = dan_arena_printf(g->arena, "grad:%s", g->node[i].name);
            b.layer = -1;
            int32_t made = g->n;
            if (name) dan_output(&b, name, or_zero(&b, s.grad[i][0], i));
            else dan_poison(&b, DAN_ENOMEM, "not enough memory for the gradients");
            gradient_of(g, i, made);
        }
        rc = dan_builder_check(&b, e);
    }
    sweep_release(&s);
    return rc;
}

const struct dan_pass dan_pass_autodiff = {.name = "autodiff", .doc = "appends the gradient of the loss for every unfrozen param", .run = run};
