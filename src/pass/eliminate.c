/* Moves of data that cancel:
 *   concat(all parts of split(x))          -> x          part k of split(concat(a, b, ..))    -> a, b, ..
 *   slice(concat(a, b, ..)) that is b      -> b          slice of everything                  -> x
 *   merge_dims(split_dim(x))               -> x          split_dim(merge_dims(x)), same size  -> x
 *   permute(permute(x)) back               -> x          copy(copy(x))                        -> copy(x)
 *   slice_grad(a, 0:k) + slice_grad(b, k:) -> concat(a, b), which place_concat then makes free
 * E1 at worst: where a slice's gradient is -0, adding the zeros of its neighbour made it +0, and a copy that mixed
 * precision would have stored as bf16 rounded; else the same bits. */
#include "base/mem.h"
#include "op/ops.h"
#include "op/util.h"
#include "pass/bodies.h"

struct state { const int32_t *uses; const struct dan_pass_opts *o; };

static int axis_of(const struct dan_node *n, int rank) { return dan_axis(n->attr[DAN_AXIS].i, rank); }

/* The split that r is part k of; 0: none. */
static dan_ref split_of(const struct dan_graph *g, dan_ref r, int k)
{
    const struct dan_node *n = &g->node[r];
    bool part = dan_op_is(n, "pick") && n->attr[DAN_PICK_INDEX].i == k;
    return part && dan_op_is(&g->node[n->in[0]], "split") ? n->in[0] : 0;
}

static dan_ref joined_parts(const struct dan_graph *g, const struct dan_node *n)
{
    dan_ref split = split_of(g, n->in[0], 0);
    if (!split || g->node[split].n_out != n->n_in || axis_of(n, n->shape.n) != axis_of(&g->node[split], n->shape.n)) return 0;
    for (int k = 1; k < n->n_in; k++)
        if (split_of(g, n->in[k], k) != split) return 0;
    return g->node[split].in[0];
}

/* Part k of the split of a concat of such parts. */
static dan_ref split_join(const struct dan_graph *g, const struct dan_node *n)
{
    dan_ref split = n->in[0];
    if (!dan_op_is(&g->node[split], "split")) return 0;
    const struct dan_node *s = &g->node[split], *join = &g->node[s->in[0]];
    if (!dan_op_is(join, "concat") || join->n_in != s->n_out || axis_of(s, join->shape.n) != axis_of(join, join->shape.n)) return 0;
    for (int k = 0; k < s->n_out; k++)
        if (!dan_shape_equal(&s->part[k].shape, &g->node[join->in[k]].shape)) return 0;
    return join->in[n->attr[DAN_PICK_INDEX].i];
}

/* The bounds of a slice along an axis whose size is fixed; axis 0 may be dynamic. */
static void bounds(const struct dan_node *n, int64_t dim, int64_t *lo, int64_t *hi)
{
    dan_slice_bounds(dim, n->attr[DAN_SLICE_START].i, n->attr[DAN_SLICE_STOP].i, lo, hi);
}

static dan_ref sliced(const struct dan_graph *g, const struct dan_node *n)
{
    const struct dan_node *x = &g->node[n->in[0]];
    int64_t lo, hi, at = 0;
    int axis = axis_of(n, x->shape.n);
    if (n->attr[DAN_SLICE_START].i == 0 && n->attr[DAN_SLICE_STOP].i == DAN_END) return n->in[0];
    if (axis < 1 || !dan_op_is(x, "concat") || axis != axis_of(x, x->shape.n)) return 0;
    bounds(n, x->shape.d[axis], &lo, &hi);
    for (int k = 0; k < x->n_in; at += g->node[x->in[k++]].shape.d[axis])
        if (at == lo && at + g->node[x->in[k]].shape.d[axis] == hi) return x->in[k];
    return 0;
}

static dan_ref permuted_back(const struct dan_graph *g, const struct dan_node *n)
{
    const struct dan_node *p = &g->node[n->in[0]];
    if (!dan_op_is(p, "permute")) return 0;
    for (int i = 0; i < n->shape.n; i++)
        if (p->attr[n->attr[i].i].i != i) return 0;
    return p->in[0];
}

/* split_dim and merge_dims at the same axis; the view of a view is as contiguous as its root. */
static dan_ref reshaped_back(const struct dan_graph *g, const struct dan_node *n)
{
    const struct dan_node *x = &g->node[n->in[0]];
    bool merge = dan_op_is(n, "merge_dims");
    if (!dan_op_is(x, merge ? "split_dim" : "merge_dims")) return 0;
    if (axis_of(n, n->shape.n) != axis_of(x, merge ? n->shape.n : x->shape.n)) return 0;
    const struct dan_shape *before = &g->node[x->in[0]].shape;
    bool same_size = merge || n->attr[DAN_SPLIT_INNER].i == before->d[axis_of(n, n->shape.n) + 1];
    return same_size && dan_shape_equal(&n->shape, before) ? x->in[0] : 0;
}

/* The old node that i equals; 0: none. */
static dan_ref same_as(const struct dan_graph *g, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    if (dan_op_is(n, "concat")) return n->n_in == 1 ? n->in[0] : joined_parts(g, n);
    if (dan_op_is(n, "pick")) return split_join(g, n);
    if (dan_op_is(n, "slice")) return sliced(g, n);
    if (dan_op_is(n, "permute")) return permuted_back(g, n);
    if (dan_op_is(n, "merge_dims") || dan_op_is(n, "split_dim")) return reshaped_back(g, n);
    if (dan_op_is(n, "copy") && dan_op_is(&g->node[n->in[0]], "copy")) return n->in[0];
    return 0;
}

/* What was materialised may be read through a view that needs it contiguous; a view in its place need not be. */
static bool needs_contiguous(const struct dan_graph *g, dan_ref i, dan_ref x)
{
    const struct dan_node *n = &g->node[i], *m = &g->node[x];
    if (dan_op_is(m, "pick")) m = &g->node[m->in[0]];
    if (!(m->op->props & DAN_OP_VIEW) || n->op->props & DAN_OP_VIEW || dan_op_is(n, "pick")) return false;
    for (dan_ref j = i + 1; j < g->n; j++)
        if (g->node[j].op->props & DAN_OP_VIEW && g->node[j].in[0] == i) return true;
    return false;
}

/* The two gradients of slices that fill a tensor, in order; false when i is something else. */
static bool two_slices(const struct dan_graph *g, const struct state *s, dan_ref i, dan_ref *first, dan_ref *second)
{
    const struct dan_node *n = &g->node[i];
    if (!dan_op_is(n, "add")) return false;
    for (int k = 0; k < 2; k++) {
        const struct dan_node *a = &g->node[n->in[k]], *b = &g->node[n->in[1 - k]];
        if (!dan_op_is(a, "slice_grad") || !dan_op_is(b, "slice_grad")) return false;
        if (s->uses[n->in[k]] != 1 || s->uses[n->in[1 - k]] != 1) return false;
        int axis = axis_of(a, a->shape.n);
        if (axis < 1 || axis != axis_of(b, b->shape.n)) return false;
        int64_t dim = a->shape.d[axis], lo, hi, lo2, hi2;
        bounds(a, dim, &lo, &hi);
        bounds(b, dim, &lo2, &hi2);
        if (lo != 0 || hi != lo2 || hi2 != dim) continue;
        *first = a->in[0];
        *second = b->in[0];
        return true;
    }
    return false;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct state *s = r->ctx;
    const struct dan_graph *g = r->old;
    dan_ref x = same_as(g, i), a, b;
    if (x && needs_contiguous(g, i, x)) {
        dan_not_fused(s->o, g, (const dan_ref[]){i, 0}, "a view of it needs it contiguous");
        return DAN_KEEP;
    }
    if (x) {
        dan_fused(s->o, g, (const dan_ref[]){g->node[i].in[0], i, 0});
        return r->map[x];
    }
    if (!two_slices(g, s, i, &a, &b)) return DAN_KEEP;
    const struct dan_node *n = &g->node[i];
    dan_fused(s->o, g, (const dan_ref[]){n->in[0], n->in[1], i, 0});
    return dan_concat(&r->b, (const dan_ref[]){r->map[a], r->map[b]}, 2, axis_of(&g->node[n->in[0]], n->shape.n));
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    int32_t *uses = dan_malloc(sizeof *uses * (size_t)g->n);
    if (!uses) return dan_fail(e, DAN_ENOMEM, "not enough memory to look at %d nodes", g->n);
    struct state s = {uses, o};
    dan_count_uses(g, uses);
    int rc = dan_rewrite_each(g, visit, &s, e);
    dan_free(uses);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_eliminate = {
    .name = "eliminate", .doc = "concats, splits, slices, reshapes and copies that undo each other go away", .run = run, .exact = DAN_E1,
    .alone = true,
    .needs = "two moves of data that cancel, or the gradients of two slices that fill a tensor"};
