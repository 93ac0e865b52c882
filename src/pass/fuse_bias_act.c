/* Epilogues of a matrix product, while its tile is in cache:
 *   act(matmul(x, w, bias))   -> matmul{act}          when nobody else reads the product (inference)
 *   add(r, matmul(x, w))      -> matmul(..., residual = r)
 * The bias itself is already an input of matmul.  E1: the sum order with the residual changes. */
#include "base/mem.h"
#include "op/ops.h"
#include "pass/pass.h"

struct state { int32_t *uses; dan_ref *into; };      /* into[matmul] = the node that swallows it */

static bool open_product(const struct dan_graph *g, dan_ref m, const struct state *s)
{
    const struct dan_node *n = &g->node[m];
    return dan_op_is(n, "matmul") && s->uses[m] == 1 && !n->attr[DAN_MATMUL_ACT].i && !n->in[3] && !s->into[m];
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (dan_op_is(n, "act") && open_product(g, n->in[0], s)) s->into[n->in[0]] = i;
        if (!dan_op_is(n, "add") || !dan_shape_equal(&g->node[n->in[0]].shape, &g->node[n->in[1]].shape)) continue;
        for (int k = 1; k >= 0; k--)
            if (open_product(g, n->in[k], s) && n->in[1 - k] < n->in[k]) {
                s->into[n->in[k]] = i;
                break;
            }
    }
}

static dan_ref emit(struct dan_rewrite *r, dan_ref product, enum dan_act act, dan_ref residual)
{
    const struct dan_node *m = &r->old->node[product];
    union dan_attr attr[DAN_MAX_ATTR];
    for (int i = 0; i < DAN_MAX_ATTR; i++) attr[i] = m->attr[i];
    attr[DAN_MATMUL_ACT].i = act;
    dan_ref in[] = {r->map[m->in[0]], r->map[m->in[1]], m->in[2] ? r->map[m->in[2]] : 0, residual ? r->map[residual] : 0};
    r->b.where = m->where;
    return dan_emit(&r->b, m->op, in, 4, attr, DAN_MAX_ATTR);
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (s->into[i]) return DAN_DROP;
    if (dan_op_is(n, "act") && s->into[n->in[0]] == i) return emit(r, n->in[0], (enum dan_act)n->attr[0].i, 0);
    if (dan_op_is(n, "add"))
        for (int k = 0; k < 2; k++)
            if (s->into[n->in[k]] == i) return emit(r, n->in[k], DAN_ACT_NONE, n->in[1 - k]);
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    (void)o;
    struct state s = {dan_calloc((size_t)g->n, sizeof *s.uses), dan_calloc((size_t)g->n, sizeof *s.into)};
    int rc = s.uses && s.into ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.uses);
    dan_free(s.into);
    return rc;
}

const struct dan_pass dan_pass_fuse_bias_act = {"fuse_bias_act", "activation and residual move into the product's epilogue", run};
