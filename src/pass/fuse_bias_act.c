/* Epilogues of a matrix product, while its tile is in cache:
 *   act(matmul(x, w, bias))   -> matmul{act}          when nobody else reads the product (inference)
 *                             -> linear_act           when its gradient does: parts product and act
 *   add(r, matmul(x, w))      -> matmul(..., residual = r)
 * The bias itself is already an input of matmul.  E1: the sum order with the residual changes. */
#include <stdio.h>
#include "base/mem.h"
#include "op/ops.h"
#include "pass/bodies.h"

struct state {
    int32_t *uses;
    dan_ref *into;                             /* into[matmul] = the node that swallows it */
    dan_ref *made;                             /* made[act] = its part of a linear_act */
    const struct dan_pass_opts *o;
    char why[80];
};

/* Why the epilogue of product m cannot take `reader`; NULL when it can.  An activation leaves the product to others. */
static const char *why_not(const struct dan_graph *g, dan_ref m, dan_ref reader, struct state *s)
{
    const struct dan_node *n = &g->node[m];
    if (n->attr[DAN_MATMUL_ACT].i) return "the product has an activation already";
    if (n->in[3]) return "the product has a residual already";
    if (dan_op_is(&g->node[reader], "act") && !g->node[reader].attr[0].i) return "the activation is none";
    if (s->into[m]) return "the product's epilogue is taken by another reader";
    if (s->uses[m] == 1 || dan_op_is(&g->node[reader], "act")) return NULL;
    snprintf(s->why, sizeof s->why, "%s reads the product, too", dan_other_reader(g, m, reader));
    return s->why;
}

static const char *why_not_add(const struct dan_graph *g, dan_ref i, int k, struct state *s)
{
    const struct dan_node *n = &g->node[i];
    if (!dan_shape_equal(&g->node[n->in[0]].shape, &g->node[n->in[1]].shape)) return "the addition broadcasts";
    const char *why = why_not(g, n->in[k], i, s);
    return why ? why : n->in[1 - k] >= n->in[k] ? "the other summand is computed after the product" : NULL;
}

static void take(const struct dan_graph *g, struct state *s, dan_ref product, dan_ref reader, const char *why)
{
    const dan_ref place[] = {product, reader, 0};
    if (why) dan_not_fused(s->o, g, place, "%s", why);
    else dan_fused(s->o, g, place);
    if (!why) s->into[product] = reader;
}

static void find_add(const struct dan_graph *g, struct state *s, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    int at = -1;
    for (int k = 1; k >= 0; k--)
        if (dan_op_is(&g->node[n->in[k]], "matmul") && (at < 0 || why_not_add(g, i, at, s))) at = k;
    if (at >= 0) take(g, s, n->in[at], i, why_not_add(g, i, at, s));
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (dan_op_is(n, "act") && dan_op_is(&g->node[n->in[0]], "matmul")) take(g, s, n->in[0], i, why_not(g, n->in[0], i, s));
        if (dan_op_is(n, "add")) find_add(g, s, i);
    }
}

/* Product i, which others than its activation read: made where it stands. */
static dan_ref emit_both(struct dan_rewrite *r, struct state *s, dan_ref i)
{
    dan_ref both = dan_rewrite_product(r, &dan_op_linear_act, i, DAN_MATMUL_ACT, r->old->node[s->into[i]].attr[0].i, 0);
    s->made[s->into[i]] = dan_pick(&r->b, both, 1);
    return dan_pick(&r->b, both, 0);
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (s->made[i]) return s->made[i];
    if (s->into[i]) return s->uses[i] == 1 ? DAN_DROP : emit_both(r, s, i);
    if (dan_op_is(n, "act") && s->into[n->in[0]] == i)
        return dan_rewrite_product(r, &dan_op_matmul, n->in[0], DAN_MATMUL_ACT, n->attr[0].i, 0);
    if (dan_op_is(n, "add"))
        for (int k = 0; k < 2; k++)
            if (s->into[n->in[k]] == i)
                return dan_rewrite_product(r, &dan_op_matmul, n->in[k], DAN_MATMUL_ACT, DAN_ACT_NONE, r->map[n->in[1 - k]]);
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    struct state s = {dan_calloc(n, sizeof *s.uses), dan_calloc(n, sizeof *s.into), dan_calloc(n, sizeof *s.made), o, ""};
    int rc = s.uses && s.into && s.made ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.uses);
    dan_free(s.into);
    dan_free(s.made);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_fuse_bias_act = {
    .name = "fuse_bias_act", .doc = "activation and residual move into the product's epilogue", .run = run, .exact = DAN_E1,
    .needs = "a product with a free epilogue, and, for an addition, no other reader"};
