/* Small algebra that autodiff leaves behind:
 *   broadcast(fill v) = fill v        mul(fill 1, x) = x       scale(x, 1) = x
 *   add(x, scatter_add(fill 0, rows, ids)) = scatter_add(x, rows, ids)
 * The last one makes a tied embedding's gradient one buffer. */
#include "base/mem.h"
#include "op/ops.h"
#include "pass/pass.h"

static bool is_fill(const struct dan_graph *g, dan_ref r, double v) { return dan_op_is(&g->node[r], "fill_like") && g->node[r].attr[DAN_FILL_VALUE].f == v; }

static bool same_shape(const struct dan_graph *g, dan_ref a, dan_ref b) { return dan_shape_equal(&g->node[a].shape, &g->node[b].shape); }

static dan_ref add_scatter(struct dan_rewrite *r, dan_ref i, const int32_t *uses)
{
    const struct dan_graph *g = r->old;
    for (int k = 0; k < 2; k++) {
        dan_ref s = g->node[i].in[k], x = g->node[i].in[1 - k];
        const struct dan_node *n = &g->node[s];
        if (!dan_op_is(n, "scatter_add") || uses[s] != 1 || !is_fill(g, n->in[0], 0) || !same_shape(g, i, x)) continue;
        return dan_scatter_add(&r->b, r->map[x], r->map[n->in[1]], r->map[n->in[2]]);
    }
    return DAN_KEEP;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct dan_graph *g = r->old;
    const struct dan_node *n = &g->node[i];
    if (dan_op_is(n, "broadcast_like") && dan_op_is(&g->node[n->in[0]], "fill_like"))
        return dan_fill_like(&r->b, r->map[n->in[1]], g->node[n->in[0]].attr[DAN_FILL_VALUE].f);
    if (dan_op_is(n, "scale") && n->attr[DAN_SCALE_BY].f == 1) return r->map[n->in[0]];
    if (dan_op_is(n, "mul"))
        for (int k = 0; k < 2; k++)
            if (dan_op_is(&r->g->node[r->map[n->in[k]]], "fill_like") && r->g->node[r->map[n->in[k]]].attr[DAN_FILL_VALUE].f == 1 && same_shape(g, i, n->in[1 - k]))
                return r->map[n->in[1 - k]];
    if (dan_op_is(n, "add")) return add_scatter(r, i, r->ctx);
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    (void)o;
    int32_t *uses = dan_malloc(sizeof *uses * (size_t)g->n);
    if (!uses) return dan_fail(e, DAN_ENOMEM, "not enough memory to simplify %d nodes", g->n);
    dan_count_uses(g, uses);
    int rc = dan_rewrite_each(g, visit, uses, e);
    dan_free(uses);
    return rc;
}

const struct dan_pass dan_pass_simplify = {"simplify", "small algebra after autodiff", run};
