/* Small algebra that autodiff leaves behind:
 *   broadcast(fill v) = fill v        mul(fill 1, x) = x       scale(x, 1) = x
 *   add(x, scatter_add(fill 0, rows, ids)) = scatter_add(x, rows, ids)
 * The last one makes a tied embedding's gradient one buffer. */
#include "base/mem.h"
#include "op/ops.h"
#include "pass/pass.h"

struct state { int32_t *uses; const struct dan_pass_opts *o; };

static bool is_fill(const struct dan_graph *g, dan_ref r, double v) { return dan_op_is(&g->node[r], "fill_like") && g->node[r].attr[DAN_FILL_VALUE].f == v; }

static bool same_shape(const struct dan_graph *g, dan_ref a, dan_ref b) { return dan_shape_equal(&g->node[a].shape, &g->node[b].shape); }

static dan_ref add_scatter(struct dan_rewrite *r, dan_ref i, const struct state *s)
{
    const struct dan_graph *g = r->old;
    for (int k = 0; k < 2; k++) {
        dan_ref y = g->node[i].in[k], x = g->node[i].in[1 - k];
        const struct dan_node *n = &g->node[y];
        if (!dan_op_is(n, "scatter_add") || s->uses[y] != 1 || !is_fill(g, n->in[0], 0) || !same_shape(g, i, x)) continue;
        dan_fused(s->o, g, (const dan_ref[]){y, i, 0});
        return dan_scatter_add(&r->b, r->map[x], r->map[n->in[1]], r->map[n->in[2]]);
    }
    return DAN_KEEP;
}

/* The factor that remains when the other one is 1; 0 when none is. */
static dan_ref times_one(const struct dan_rewrite *r, dan_ref i)
{
    const struct dan_node *n = &r->old->node[i];
    if (dan_op_is(n, "scale")) return n->attr[DAN_SCALE_BY].f == 1 ? n->in[0] : 0;
    for (int k = 0; k < 2 && dan_op_is(n, "mul"); k++)
        if (is_fill(r->g, r->map[n->in[k]], 1) && same_shape(r->old, i, n->in[1 - k])) return n->in[1 - k];
    return 0;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct state *s = r->ctx;
    const struct dan_graph *g = r->old;
    const struct dan_node *n = &g->node[i];
    dan_ref rest = times_one(r, i);
    bool constant = dan_op_is(n, "broadcast_like") && dan_op_is(&g->node[n->in[0]], "fill_like");
    if (rest || constant) dan_fused(s->o, g, (const dan_ref[]){i, 0});
    if (constant) return dan_fill_like(&r->b, r->map[n->in[1]], g->node[n->in[0]].attr[DAN_FILL_VALUE].f);
    if (rest) return r->map[rest];
    return dan_op_is(n, "add") ? add_scatter(r, i, s) : DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct state s = {dan_malloc(sizeof *s.uses * (size_t)g->n), o};
    if (!s.uses) return dan_fail(e, DAN_ENOMEM, "not enough memory to simplify %d nodes", g->n);
    dan_count_uses(g, s.uses);
    int rc = dan_rewrite_each(g, visit, &s, e);
    dan_free(s.uses);
    return rc;
}

const struct dan_pass dan_pass_simplify = {
    .name = "simplify", .doc = "small algebra after autodiff", .run = run, .exact = DAN_E1, .alone = true,
    .needs = "a factor 1, a broadcast constant, or a scatter into zeros that one addition reads"};
