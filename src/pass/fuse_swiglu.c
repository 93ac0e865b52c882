/* mul(silu(gate), up) with gate, up the halves of one product -> swiglu(product): one pass over
 * memory forward, one backward (E1: silu by another formula of the same accuracy). */
#include "op/ops.h"
#include "pass/pass.h"

/* The merged product when r is half `which` of a two-way split of its last axis; else 0. */
static dan_ref half_of(const struct dan_graph *g, dan_ref r, int64_t which)
{
    const struct dan_node *p = &g->node[r];
    if (!dan_op_is(p, "pick") || p->attr[DAN_PICK_INDEX].i != which) return 0;
    const struct dan_node *s = &g->node[p->in[0]];
    if (!dan_op_is(s, "split") || s->n_out != 2 || s->attr[DAN_AXIS].i != 1 || g->node[s->in[0]].shape.n != 2) return 0;
    return dan_shape_equal(&s->part[0].shape, &s->part[1].shape) ? s->in[0] : 0;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct dan_graph *g = r->old;
    const struct dan_node *n = &g->node[i];
    if (!dan_op_is(n, "mul")) return DAN_KEEP;
    for (int k = 0; k < 2; k++) {
        const struct dan_node *a = &g->node[n->in[k]];
        if (!dan_op_is(a, "act") || a->attr[0].i != DAN_ACT_SILU) continue;
        dan_ref x = half_of(g, a->in[0], 0), y = half_of(g, n->in[1 - k], 1);
        const dan_ref place[] = {n->in[k], i, 0};
        if (x && x == y) {
            dan_fused(r->ctx, g, place);
            return dan_swiglu(&r->b, r->map[x]);
        }
        dan_not_fused(r->ctx, g, place, "gate and up are not the first and second half of one product [N,2F]");
    }
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    return dan_rewrite_each(g, visit, (void *)(uintptr_t)o, e);
}

const struct dan_pass dan_pass_fuse_swiglu = {
    .name = "fuse_swiglu", .doc = "silu(gate) * up becomes one pass", .run = run, .exact = DAN_E1,
    .needs = "silu of the first half of a product of two equal halves, multiplied by its second half"};
