/* The gradient through an activation moves into the product behind it:
 *   act_grad(h, matmul(dy, w))  ->  matmul(dy, w, gate = act, residual = h)
 * The product's tile is multiplied by act'(h) while it is in cache: one pass over [N,F] less to write and two less to
 * read.  E1: what lies between is no longer rounded to its storage format. */
#include "base/mem.h"
#include "op/ops.h"
#include "pass/bodies.h"

struct state { int32_t *uses; const struct dan_pass_opts *o; dan_ref *into; };     /* into[matmul] = its act_grad */

static const char *why_not(const struct dan_graph *g, dan_ref m, dan_ref grad, const int32_t *uses)
{
    const struct dan_node *n = &g->node[m];
    if (n->attr[DAN_MATMUL_ACT].i || n->attr[DAN_MATMUL_GATE].i) return "the product has an activation already";
    if (!g->node[grad].attr[0].i) return "the activation is none";
    if (n->in[3]) return "the product has a residual already";
    return uses[m] != 1 ? "another node reads the gradient before the activation" : NULL;
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "act_grad") || !dan_op_is(&g->node[n->in[1]], "matmul")) continue;
        const char *why = why_not(g, n->in[1], i, s->uses);
        const dan_ref place[] = {n->in[1], i, 0};
        if (why) dan_not_fused(s->o, g, place, "%s", why);
        else dan_fused(s->o, g, place);
        if (!why) s->into[n->in[1]] = i;
    }
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (s->into[i]) return DAN_DROP;
    if (!dan_op_is(n, "act_grad") || s->into[n->in[1]] != i) return DAN_KEEP;
    return dan_rewrite_product(r, &dan_op_matmul, n->in[1], DAN_MATMUL_GATE, n->attr[0].i, r->map[n->in[0]]);
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct state s = {dan_calloc((size_t)g->n, sizeof *s.uses), o, dan_calloc((size_t)g->n, sizeof *s.into)};
    int rc = s.uses && s.into ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.uses);
    dan_free(s.into);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_fuse_act_grad = {
    .name = "fuse_act_grad", .doc = "the gradient of an activation moves into the product before it", .run = run, .exact = DAN_E1,
    .needs = "the gradient of an activation whose incoming gradient is a product that nobody else reads, without residual"};
