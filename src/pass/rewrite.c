/* The node-by-node rewriting that most passes are made of, and the origins it carries over. */
#include <string.h>
#include "base/mem.h"
#include "pass/origin.h"
#include "pass/pass.h"

void dan_count_uses(const struct dan_graph *g, int32_t *uses)
{
    memset(uses, 0, sizeof *uses * (size_t)g->n);
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++) uses[g->node[i].in[k]]++;
    for (int32_t i = 0; i < g->n_out; i++) uses[g->out[i]]++;
}

dan_ref dan_rewrite_copy(struct dan_rewrite *r, dan_ref old)
{
    const struct dan_node *n = &r->old->node[old];
    dan_ref *in = dan_arena_alloc(r->g->arena, sizeof *in * (size_t)(n->n_in ? n->n_in : 1));
    if (!in) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory to rewrite a graph");
    for (int k = 0; k < n->n_in; k++) {
        in[k] = n->in[k] ? r->map[n->in[k]] : 0;
        if (n->in[k] && in[k] <= 0) return dan_poison(&r->b, DAN_EINVAL, "a pass dropped %%%d, which '%s' reads", n->in[k], n->op->name);
    }
    struct dan_node copy = *n;
    copy.in = in;
    if (r->g->n == r->g->cap) {
        struct dan_node *bigger = dan_arena_alloc(r->g->arena, sizeof *bigger * (size_t)r->g->cap * 2);
        if (!bigger) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory to rewrite a graph");
        memcpy(bigger, r->g->node, sizeof *bigger * (size_t)r->g->n);
        r->g->node = bigger;
        r->g->cap *= 2;
    }
    r->g->node[r->g->n] = copy;
    return r->g->n++;
}

/* ---- origins ------------------------------------------------------------------------------- */

struct walk {
    struct dan_rewrite r;
    int32_t *uses;                             /* of old nodes */
    int32_t *seen;                             /* edges into an old node from those being replaced; zero between visits */
    dan_ref *stack;                            /* old nodes that are replaced together: [0, n) */
    int32_t  n;
};

static bool shows(const struct dan_node *n) { return n->op->props & DAN_OP_VIEW || dan_op_is(n, "pick"); }

/* Whether what was made for this visit reads `x`, or is it. */
static bool is_input(const struct dan_graph *g, int32_t made, dan_ref to, dan_ref x)
{
    if (x == to) return true;
    for (int32_t j = made; j < g->n; j++)
        for (int k = 0; k < g->node[j].n_in; k++)
            if (g->node[j].in[k] == x) return true;
    return false;
}

/* The old nodes that the result of visiting i stands for: i, what was dropped or made anew for it, and what only these
 * read, up to what the new nodes read themselves. */
static void find_replaced(struct walk *w, dan_ref i, int32_t made, dan_ref to)
{
    const struct dan_graph *old = w->r.old;
    w->n = 0;
    w->stack[w->n++] = i;
    for (dan_ref x = 1; x < i && made < w->r.g->n; x++)                       /* other results of what was made here */
        if (w->r.map[x] >= made) {
            w->seen[x] = w->uses[x] + 1;       /* in already: no edge brings it in again */
            w->stack[w->n++] = x;
        }
    for (int32_t at = 0; at < w->n; at++) {
        const struct dan_node *n = &old->node[w->stack[at]];
        for (int k = 0; k < n->n_in; k++) {
            dan_ref x = n->in[k], now = x ? w->r.map[x] : 0;
            if (!x || old->node[x].op->props & DAN_OP_LEAF || (now > 0 && is_input(w->r.g, made, to, now))) continue;
            if (++w->seen[x] == (now == DAN_DROP ? 1 : w->uses[x])) w->stack[w->n++] = x;
        }
    }
    for (int32_t at = 0; at < w->n; at++) {
        w->seen[w->stack[at]] = 0;
        for (int k = 0; k < old->node[w->stack[at]].n_in; k++) w->seen[old->node[w->stack[at]].in[k]] = 0;
    }
}

/* Adds to node x and, when it only shows what another node computes, to that one. */
static void add_origin(struct dan_graph *g, dan_ref x, const dan_ref *from)
{
    for (;; x = g->node[x].in[0]) {
        g->node[x].origin = dan_origin_merge(g->arena, g->node[x].origin, from);
        if (!shows(&g->node[x])) return;
    }
}

/* What was made since `made`, and `to`, now stand for old node i and its like. */
static void carry_origins(struct walk *w, dan_ref i, int32_t made, dan_ref to)
{
    struct dan_graph *g = w->r.g;
    const struct dan_node *n = &w->r.old->node[i];
    if (to <= 0 || (to >= made && g->node[to].origin == n->origin)) return;      /* dropped, or a copy */
    find_replaced(w, i, made, to);
    const dan_ref *from = NULL;
    for (int32_t k = 0; k < w->n; k++)
        if (k == 0 || !shows(&w->r.old->node[w->stack[k]])) from = dan_origin_merge(g->arena, from, w->r.old->node[w->stack[k]].origin);
    for (int32_t j = made; j < g->n; j++)
        if (!g->node[j].origin) add_origin(g, j, from);
    add_origin(g, to, from);
}

/* ---- the walk ------------------------------------------------------------------------------ */

static void visit_all(struct walk *w, dan_ref (*visit)(struct dan_rewrite *r, dan_ref i))
{
    struct dan_rewrite *r = &w->r;
    for (int32_t i = 1; i < r->old->n && !r->b.err.code; i++) {
        if (i == r->old->n_forward) r->g->n_forward = r->g->n;
        r->b.layer = r->old->node[i].layer;
        r->b.where = r->old->node[i].where;
        int32_t made = r->g->n;
        dan_ref to = visit(r, i);
        r->map[i] = to == DAN_KEEP ? dan_rewrite_copy(r, i) : to;
        if (to != DAN_KEEP && !r->b.err.code) carry_origins(w, i, made, to);
    }
}

static void take_over(struct dan_graph *g, const struct dan_graph *from)
{
    g->node = from->node;
    g->n = from->n;
    g->cap = from->cap;
    g->n_forward = from->n_forward;
}

dan_ref dan_rewrite_product(struct dan_rewrite *r, const struct dan_op *op, dan_ref m, int k, int64_t value, dan_ref res)
{
    const struct dan_node *n = &r->old->node[m];
    union dan_attr attr[DAN_MAX_ATTR];
    for (int i = 0; i < DAN_MAX_ATTR; i++) attr[i] = n->attr[i];
    attr[k].i = value;
    dan_ref in[DAN_MATMUL_INPUT_SCALE + 1] = {0};
    for (int i = 0; i < n->n_in && i <= DAN_MATMUL_INPUT_SCALE; i++) in[i] = n->in[i] ? r->map[n->in[i]] : 0;
    in[3] = res;
    r->b.where = n->where;
    return dan_emit(&r->b, op, in, DAN_MATMUL_INPUT_SCALE + 1, attr, DAN_MAX_ATTR);
}

int dan_rewrite_each(struct dan_graph *g, dan_ref (*visit)(struct dan_rewrite *r, dan_ref i), void *ctx, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    int32_t *all = dan_calloc(4 * n, sizeof *all);
    struct walk w = {.r = {.old = g, .ctx = ctx, .g = dan_graph_new_in(g->arena), .map = all}};
    if (!w.r.g || !all) {
        dan_free(all);
        return dan_fail(e, DAN_ENOMEM, "not enough memory to rewrite a graph of %d nodes", g->n);
    }
    w.uses = all + n;
    w.seen = all + 2 * n;
    w.stack = all + 3 * n;
    dan_count_uses(g, w.uses);
    dan_builder_init(&w.r.b, w.r.g);
    visit_all(&w, visit);
    int rc = dan_builder_check(&w.r.b, e);
    for (int32_t i = 0; i < g->n_out && !rc; i++) {
        g->out[i] = w.r.map[g->out[i]];
        if (g->out[i] <= 0) rc = dan_fail(e, DAN_EINVAL, "a pass dropped output '%s'", g->out_name[i]);
    }
    take_over(g, w.r.g);
    dan_free(all);
    return rc;
}
