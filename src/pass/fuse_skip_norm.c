/* Residual add + norm:
 *   s = x + y; n = norm(s)            -> (s, n) = skip_norm(x, y)
 *   dx = add(d, norm_grad(...).dx)    -> norm_grad(..., dres = d)
 * Forward the same operations in the same order: exact (E0).  Backward the sum is one fused multiply-add: rounding (E1).
 * Saves one pass over [N,C] each. */
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"
#include "pass/pass.h"

struct state { int32_t *uses, *first_use; dan_ref *norm_of, *dres_of, *add_of; const struct dan_pass_opts *o; };

static bool is_norm(const struct dan_node *n) { return dan_op_is(n, "layer_norm") || dan_op_is(n, "rms_norm"); }
static bool is_norm_grad(const struct dan_node *n) { return dan_op_is(n, "layer_norm_grad") || dan_op_is(n, "rms_norm_grad"); }

static bool plain_add(const struct dan_graph *g, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    return dan_op_is(n, "add") && dan_shape_equal(&n->shape, &g->node[n->in[0]].shape) &&
           dan_shape_equal(&n->shape, &g->node[n->in[1]].shape);
}

static void find_first_uses(const struct dan_graph *g, int32_t *first)
{
    for (int32_t i = g->n - 1; i > 0; i--)
        for (int k = 0; k < g->node[i].n_in; k++) first[g->node[i].in[k]] = i;
}

static void find_forward(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        dan_ref add = g->node[i].n_in ? g->node[i].in[0] : 0;
        const dan_ref place[] = {add, i, 0};
        if (!is_norm(&g->node[i]) || !dan_op_is(&g->node[add], "add")) continue;
        if (!plain_add(g, add)) dan_not_fused(s->o, g, place, "the addition broadcasts");
        else if (s->first_use[add] != i)
            dan_not_fused(s->o, g, place, "%s reads the sum before the norm", g->node[s->first_use[add]].op->name);
        else {
            s->norm_of[add] = i;
            dan_fused(s->o, g, place);
        }
    }
}

/* Whether another pick than `mine` shows dx of G (before cse there may be several). */
static bool other_dx(const struct dan_graph *g, dan_ref grad, dan_ref mine)
{
    for (int32_t i = grad + 1; i < g->n; i++)
        if (i != mine && dan_op_is(&g->node[i], "pick") && g->node[i].in[0] == grad && g->node[i].attr[DAN_PICK_INDEX].i == 0) return true;
    return false;
}

/* The norm gradient whose dx node r is; 0 for others. */
static dan_ref norm_grad_of(const struct dan_graph *g, dan_ref r)
{
    const struct dan_node *p = &g->node[r];
    return dan_op_is(p, "pick") && p->attr[DAN_PICK_INDEX].i == 0 && is_norm_grad(&g->node[p->in[0]]) ? p->in[0] : 0;
}

/* add(d, dx) where dx = pick(G,0): d must exist before G (also when d itself is made with a later norm). */
static const char *why_not_backward(const struct dan_graph *g, const struct state *s, dan_ref d, dan_ref dx)
{
    dan_ref grad = g->node[dx].in[0];
    if (g->node[grad].in[3] || s->dres_of[grad]) return "the norm's gradient adds another one already";
    if (s->uses[dx] != 1 || other_dx(g, grad, dx)) return "another node reads the norm's gradient";
    return d >= grad || s->norm_of[d] > grad ? "the other summand is computed after the norm's gradient" : NULL;
}

/* An add that becomes part of a skip_norm is not taken twice. */
static void find_backward(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        const char *why = NULL;
        if (!plain_add(g, i) || s->norm_of[i]) continue;
        for (int k = 0; k < 2 && !s->add_of[i]; k++) {
            dan_ref dx = g->node[i].in[k], d = g->node[i].in[1 - k], grad = norm_grad_of(g, dx);
            if (!grad || (why = why_not_backward(g, s, d, dx))) continue;
            s->dres_of[grad] = d;
            s->add_of[i] = dx;
            dan_fused(s->o, g, (const dan_ref[]){grad, i, 0});
        }
        if (why && !s->add_of[i]) dan_not_fused(s->o, g, (const dan_ref[]){i, 0}, "%s", why);
    }
}

static dan_ref emit_skip(struct dan_rewrite *r, dan_ref add, dan_ref norm)
{
    const struct dan_node *a = &r->old->node[add], *n = &r->old->node[norm];
    dan_ref x = r->map[a->in[0]], y = r->map[a->in[1]], gamma = r->map[n->in[1]];
    r->b.where = n->where;
    if (dan_op_is(n, "rms_norm")) return dan_skip_rms_norm(&r->b, x, y, gamma, n->attr[0].f);
    return dan_skip_layer_norm(&r->b, x, y, gamma, n->in[2] ? r->map[n->in[2]] : 0, n->attr[0].f);
}

static dan_ref emit_grad(struct dan_rewrite *r, dan_ref i, dan_ref dres)
{
    const struct dan_node *n = &r->old->node[i];
    dan_ref x = r->map[n->in[0]], gamma = r->map[n->in[1]], dy = r->map[n->in[2]];
    if (dan_op_is(n, "rms_norm_grad")) return dan_rms_norm_grad(&r->b, x, gamma, dy, r->map[dres], n->attr[0].f);
    return dan_layer_norm_grad(&r->b, x, gamma, dy, r->map[dres], n->attr[0].f);
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (s->norm_of[i]) return DAN_DROP;        /* made together with its norm, which is its first reader */
    if (is_norm(n) && s->norm_of[n->in[0]] == i) {
        dan_ref both = emit_skip(r, n->in[0], i);
        r->map[n->in[0]] = dan_pick(&r->b, both, 0);
        return dan_pick(&r->b, both, 1);
    }
    if (s->dres_of[i]) return emit_grad(r, i, s->dres_of[i]);
    if (s->add_of[i]) return r->map[s->add_of[i]];
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    int32_t *all = dan_calloc(n * 5, sizeof *all);
    if (!all) return dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    struct state s = {all, all + n, all + 2 * n, all + 3 * n, all + 4 * n, o};
    dan_count_uses(g, s.uses);
    find_first_uses(g, s.first_use);
    find_forward(g, &s);
    find_backward(g, &s);
    int rc = dan_rewrite_each(g, visit, &s, e);
    dan_free(all);
    return rc;
}

const struct dan_pass dan_pass_fuse_skip_norm = {
    .name = "fuse_skip_norm", .doc = "residual add and norm become one pass, forward and backward", .run = run, .exact = DAN_E0,
    .exact_grad = DAN_E1,
    .needs = "an addition of equal shapes whose first reader is a norm; backward: its dx is read by one addition only"};
