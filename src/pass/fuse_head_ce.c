/* Output head and cross-entropy without the [N,V] logits:
 *   softmax_ce(x W^T, t)                                    -> head_ce(x, W, t)
 *   with softmax_ce_grad and its two products               -> head_ce_grad(x, W, t, dloss)
 * When dloss does not depend on the loss (it is a per-token weight), one head_ce_grad gives loss
 * and gradients from a single pass over the vocabulary.  Of a frozen head (beside an adapter) nobody reads dW, which is left out
 * then; it may be stored in any format. */
#include <string.h>
#include "base/mem.h"
#include "op/head_ce.h"
#include "pass/pass.h"

struct head { dan_ref logits, ce, grad, dx, dw; bool learns; };      /* learns: somebody reads dw */
struct state {
    struct head *head;
    int32_t *head_of;
    int32_t *uses;
    int n;
    int64_t min_vocab;
    dan_ref *made;
    const struct dan_pass_opts *o;
};
enum { CHUNK = 1024 };

/* Why its product is no head that can go without its logits; NULL when it is one. */
static const char *why_no_head(const struct dan_graph *g, const struct head *h)
{
    const struct dan_node *n = &g->node[h->logits];
    const struct dan_dtype *x = g->node[n->in[0]].dtype, *w = g->node[n->in[1]].dtype;
    if (n->attr[DAN_MATMUL_TA].i || !n->attr[DAN_MATMUL_TB].i || n->shape.n != 2) return "the logits are not x W^T of [N,C] and [V,C]";
    if (n->attr[DAN_MATMUL_ACT].i || n->in[3]) return "the product has an activation or residual";
    if (n->in[2]) return "the head has a bias";
    if (n->in[DAN_MATMUL_SCALE]) return "the head's weights have a scale per row";
    if (h->learns && w != x) return "the head learns and is stored in another format than its rows";
    return dan_head_takes(x, w) ? NULL : "the head's weights are stored in another format than its rows";
}

static void find_readers(const struct dan_graph *g, struct head *h)
{
    const dan_ref x = g->node[h->logits].in[0], w = g->node[h->logits].in[1];
    for (int32_t i = h->logits + 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (dan_op_is(n, "softmax_ce") && n->in[0] == h->logits) h->ce = i;
        if (dan_op_is(n, "softmax_ce_grad") && n->in[0] == h->logits) h->grad = i;
        if (!h->grad || !dan_op_is(n, "matmul") || n->in[0] != h->grad || n->attr[DAN_MATMUL_TB].i) continue;
        bool ta = n->attr[DAN_MATMUL_TA].i;
        if (n->in[1] == w && !ta) h->dx = i;
        if (n->in[1] == x && ta) h->dw = i;
    }
}

static const char *why_not_readers(const struct dan_graph *g, const struct head *h, const int32_t *uses)
{
    if (!h->grad) return NULL;
    if (g->node[h->grad].in[1] != g->node[h->ce].in[1]) return "loss and gradient have different targets";
    if (!h->dx) return "the gradient does not go to x";
    return uses[h->grad] == 1 + (h->dw != 0) ? NULL : "the gradient of the logits has another reader";
}

static void take(const struct dan_graph *g, struct state *s, const struct head *h)
{
    const dan_ref all[] = {h->logits, h->ce, h->grad, h->dx, h->dw, 0}, *place = all;
    s->head[s->n++] = *h;
    for (int k = 0; k < 5; k++)
        if (all[k]) s->head_of[all[k]] = s->n;
    dan_fused(s->o, g, place);
}

/* Of the logits, beside loss and gradient. */
static const char *other_reader(const struct dan_graph *g, const struct head *h)
{
    for (int32_t i = 0; i < g->n_out; i++)
        if (g->out[i] == h->logits) return "an output";
    for (int32_t i = h->logits + 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == h->logits && i != h->ce && i != h->grad) return g->node[i].op->name;
    return "a node";
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        struct head h = {.logits = i};
        if (!dan_op_is(&g->node[i], "matmul")) continue;
        find_readers(g, &h);
        if (!h.ce) continue;
        h.learns = h.dw && s->uses[h.dw];
        const dan_ref place[] = {i, h.ce, 0};
        const char *why = why_no_head(g, &h);
        if (!why && s->uses[i] != 1 + (h.grad != 0)) {
            dan_not_fused(s->o, g, place, "%s reads the logits, too", other_reader(g, &h));
            continue;
        }
        if (!why) why = why_not_readers(g, &h, s->uses);
        if (why) dan_not_fused(s->o, g, place, "%s", why);
        else if (g->node[i].shape.d[1] < s->min_vocab)
            dan_not_fused(s->o, g, place, "the vocabulary of %lld is below %lld", (long long)g->node[i].shape.d[1],
                          (long long)s->min_vocab);
        else take(g, s, &h);
    }
}

static enum dan_prec precision(const struct dan_node *product) { return (enum dan_prec)product->attr[DAN_MATMUL_PREC].i; }

/* head_ce_grad as soon as x, W, targets and dloss exist. */
static dan_ref emit_grad(struct dan_rewrite *r, const struct head *h)
{
    const struct dan_node *m = &r->old->node[h->logits], *n = &r->old->node[h->grad];
    const dan_ref x = r->map[m->in[0]], w = r->map[m->in[1]], targets = r->map[n->in[1]], dloss = r->map[n->in[2]];
    return h->learns ? dan_head_ce_grad(&r->b, x, w, targets, dloss, CHUNK, precision(m)) : dan_head_ce_frozen(&r->b, x, w, targets, dloss, CHUNK, precision(m));
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    if (!s->head_of[i]) return DAN_KEEP;
    int k = s->head_of[i] - 1;
    const struct head *h = &s->head[k];
    const struct dan_node *m = &r->old->node[h->logits], *n = &r->old->node[i];
    if (i == h->logits) return DAN_DROP;
    if (i == h->ce) {
        bool early = h->grad && r->map[r->old->node[h->grad].in[2]] > 0;
        if (!early) return dan_head_ce(&r->b, r->map[m->in[0]], r->map[m->in[1]], r->map[n->in[1]], CHUNK, precision(m));
        s->made[k] = emit_grad(r, h);
        return dan_pick(&r->b, s->made[k], 0);
    }
    if (!s->made[k]) s->made[k] = emit_grad(r, h);
    if (i == h->grad || (i == h->dw && !h->learns)) return DAN_DROP;
    return dan_pick(&r->b, s->made[k], i == h->dx ? 1 : 2);
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    struct state s = {dan_calloc(n, sizeof *s.head), dan_calloc(n, sizeof *s.head_of), dan_calloc(n, sizeof *s.uses), 0,
                      o->head_ce_min_vocab ? o->head_ce_min_vocab : 4096, dan_calloc(n, sizeof *s.made), o};
    int rc = s.head && s.head_of && s.uses && s.made ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.head);
    dan_free(s.head_of);
    dan_free(s.uses);
    dan_free(s.made);
    return rc;
}

const struct dan_pass dan_pass_fuse_head_ce = {
    .name = "fuse_head_ce", .doc = "output head and cross-entropy without the logits in memory", .run = run, .exact = DAN_E1,
    .needs = "a product with a vocabulary of at least 4096, read by cross-entropy and its gradient only"};
