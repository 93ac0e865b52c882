/* Products that share their input become one: q, k, v and gate, up.
 *   x Wq^T, x Wk^T, x Wv^T  ->  split(x [Wq; Wk; Wv]^T)
 * The merged weight is a param named "Wq+Wk+Wv", which the store joins on binding.  Each output
 * element is the same sum in the same order: exact (E0).  Runs before autodiff, so the gradient
 * has one product too. */
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "op/ops.h"
#include "pass/pass.h"

enum { MAX_GROUP = 6, GONE = -1, N_JOINED = 4 };
static const int joined[N_JOINED] = {1, 2, DAN_MATMUL_SCALE, DAN_MATMUL_ZERO};         /* inputs that become one param of all rows */
struct group { dan_ref member[MAX_GROUP]; int n; dan_ref split; };
struct state { struct group *group; int32_t *group_of; int32_t *uses; int n_groups; const struct dan_pass_opts *o; };

static bool is_param(const struct dan_graph *g, dan_ref r) { return r && dan_op_is(&g->node[r], "param"); }

static bool is_product(const struct dan_graph *g, dan_ref i)
{
    return dan_op_is(&g->node[i], "matmul") && is_param(g, g->node[i].in[1]);
}

/* Why product i cannot be part of any group; NULL when it can. */
static const char *why_not(const struct dan_graph *g, dan_ref i, const int32_t *uses)
{
    const struct dan_node *n = &g->node[i];
    if (n->attr[DAN_MATMUL_TA].i || !n->attr[DAN_MATMUL_TB].i || n->shape.n != 2) return "one is not x W^T of [N,C] and [K,C]";
    if (n->attr[DAN_MATMUL_ACT].i || n->in[3]) return "one has an activation or residual already";
    if (uses[n->in[1]] != 1) return "another node reads the weights of one";
    if (n->in[2] && (!is_param(g, n->in[2]) || uses[n->in[2]] != 1)) return "another node reads the bias of one";
    for (int k = DAN_MATMUL_SCALE; k <= DAN_MATMUL_ZERO; k++)
        if (n->in[k] && (!is_param(g, n->in[k]) || uses[n->in[k]] != 1)) return "another node reads the scales of one";
    return NULL;
}

/* Why b, which may be grouped, does not go with a. */
static const char *why_apart(const struct dan_graph *g, dan_ref a, dan_ref b)
{
    const struct dan_node *x = &g->node[a], *y = &g->node[b], *wx = &g->node[x->in[1]], *wy = &g->node[y->in[1]];
    const struct dan_node *bx = &g->node[x->in[2]], *by = &g->node[y->in[2]];                  /* node 0 when there is no bias */
    if (x->attr[DAN_MATMUL_PREC].i != y->attr[DAN_MATMUL_PREC].i) return "their precision differs";
    if (wx->dtype != wy->dtype || bx->dtype != by->dtype)
        return !x->in[2] != !y->in[2] ? "one has a bias, one has none" : "their weights have different formats";
    if (!x->in[DAN_MATMUL_SCALE] != !y->in[DAN_MATMUL_SCALE] || !x->in[DAN_MATMUL_ZERO] != !y->in[DAN_MATMUL_ZERO])
        return "one has scales or zeros per row, one has not";
    if (x->in[DAN_MATMUL_INPUT_SCALE] != y->in[DAN_MATMUL_INPUT_SCALE]) return "they quantise their input with different static scales";
    if (wx->frozen != wy->frozen || bx->frozen != by->frozen) return "one is frozen, one is trained";
    return wx->layer == wy->layer ? NULL : "they belong to different layers";
}

static void take(const struct dan_graph *g, struct state *s, const struct group *q)
{
    dan_ref place[MAX_GROUP + 1] = {0};
    s->n_groups++;
    for (int k = 0; k < q->n; k++) {
        const struct dan_node *m = &g->node[q->member[k]];
        place[k] = q->member[k];
        s->group_of[q->member[k]] = s->n_groups;
        /* the joined params take their places: autodiff must not see both */
        for (int j = 0; j < N_JOINED; j++)
            if (m->in[joined[j]]) s->group_of[m->in[joined[j]]] = GONE;
    }
    dan_fused(s->o, g, place);
}

/* The group that product i begins, and why later products of the same input stay out of it. */
static struct group group_from(const struct dan_graph *g, struct state *s, dan_ref i)
{
    struct group q = {.member = {i}, .n = 1};
    const char *mine = why_not(g, i, s->uses);
    for (int32_t j = i + 1; j < g->n; j++) {
        if (s->group_of[j] || !is_product(g, j) || g->node[j].in[0] != g->node[i].in[0]) continue;
        const dan_ref place[] = {i, j, 0};
        const char *why = mine ? mine : why_not(g, j, s->uses);
        if (!why) why = why_apart(g, i, j);
        if (!why && q.n == MAX_GROUP) why = "a group has six products at most";
        if (why) dan_not_fused(s->o, g, place, "%s", why);
        else q.member[q.n++] = j;
    }
    return q;
}

static void find_groups(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        if (s->group_of[i] || !is_product(g, i)) continue;
        struct group *q = &s->group[s->n_groups];
        *q = group_from(g, s, i);
        if (q->n > 1) take(g, s, q);
    }
}

/* One param from input `which` of all members: the names joined by '+', rows added up. */
static dan_ref joined_param(struct dan_rewrite *r, const struct group *q, int which)
{
    const struct dan_graph *g = r->old;
    struct dan_str name = {0};
    struct dan_shape shape = {0};
    for (int k = 0; k < q->n; k++) {
        const struct dan_node *w = &g->node[g->node[q->member[k]].in[which]];
        dan_str_printf(&name, "%s%s", k ? "+" : "", w->name);
        if (k == 0) shape = w->shape;
        else shape.d[0] += w->shape.d[0];
    }
    const struct dan_node *first = &g->node[g->node[q->member[0]].in[which]];
    dan_ref p = name.failed ? dan_poison(&r->b, DAN_ENOMEM, "not enough memory for a joined name")
                            : dan_param(&r->b, dan_str_c(&name), first->dtype, shape, first->init);
    if (p) r->g->node[p].frozen = first->frozen;
    dan_str_release(&name);
    return p;
}

static void emit_group(struct dan_rewrite *r, struct group *q)
{
    const struct dan_graph *g = r->old;
    const struct dan_node *first = &g->node[q->member[0]];
    int64_t sizes[MAX_GROUP];
    for (int k = 0; k < q->n; k++) sizes[k] = g->node[q->member[k]].shape.d[1];
    dan_ref in[DAN_MATMUL_INPUT_SCALE + 1] = {r->map[first->in[0]]}, fixed = first->in[DAN_MATMUL_INPUT_SCALE];
    for (int j = 0; j < N_JOINED; j++)
        if (first->in[joined[j]]) in[joined[j]] = joined_param(r, q, joined[j]);
    if (fixed) in[DAN_MATMUL_INPUT_SCALE] = r->map[fixed];
    dan_ref product = dan_emit(&r->b, &dan_op_matmul, in, DAN_MATMUL_INPUT_SCALE + 1, first->attr, DAN_MAX_ATTR);
    q->split = dan_split(&r->b, product, 1, sizes, q->n);
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    if (!s->group_of[i]) return DAN_KEEP;
    if (s->group_of[i] == GONE) return DAN_DROP;
    struct group *q = &s->group[s->group_of[i] - 1];
    if (!q->split) emit_group(r, q);
    for (int k = 0; k < q->n; k++)
        if (q->member[k] == i) return dan_pick(&r->b, q->split, k);
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    struct state s = {dan_calloc(n, sizeof *s.group), dan_calloc(n, sizeof *s.group_of), dan_calloc(n, sizeof *s.uses), 0, o};
    int rc = s.group && s.group_of && s.uses ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find_groups(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.group);
    dan_free(s.group_of);
    dan_free(s.uses);
    return rc;
}

const struct dan_pass dan_pass_fuse_horizontal = {
    .name = "fuse_horizontal",
    .doc = "products of one input become one product (qkv, gate+up)",
    .run = run,
    .exact = DAN_E0,
    .exact_grad = DAN_E1,
    .needs = "products [N,C] of one input with their own weights of one format, layer and precision; a bias, scales and zeros at all or at none"};
