/* Activation checkpointing (Chen et al. 2016, "Training deep nets with sublinear memory cost"):
 * backward nodes of layer L read copies of that layer's forward nodes, recomputed just before, so
 * only what crosses layers is kept.  Costs one more forward pass, saves its activations.
 * Random ops recompute the same mask: their stream is an attribute (R9). */
#include <string.h>
#include "base/mem.h"
#include "pass/pass.h"

struct state { dan_ref *clone; int32_t n_forward; };

enum { MAX_IN = 32 };

/* A state may have a newer version when the backward part runs: what was read from it is kept, not read again. */
static bool reads_state(const struct dan_graph *g, const struct dan_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        dan_ref in = n->in[k];
        while (in && (g->node[in].op->props & DAN_OP_VIEW || dan_op_is(&g->node[in], "pick"))) in = g->node[in].in[0];
        if (in && (dan_op_is(&g->node[in], "state") || g->node[in].op->props & DAN_OP_STATE)) return true;
    }
    return false;
}

static bool movable(const struct dan_graph *g, const struct dan_node *n)
{
    return n->layer >= 0 && n->n_in <= MAX_IN && !(n->op->props & (DAN_OP_LEAF | DAN_OP_STATE | DAN_OP_COMM)) && !reads_state(g, n);
}

/* The copy of old forward node f for a reader in its own layer. */
static dan_ref recompute(struct dan_rewrite *r, dan_ref f, int32_t layer)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[f];
    if (n->layer != layer || !movable(r->old, n)) return r->map[f];
    if (s->clone[f]) return s->clone[f];
    dan_ref saved[MAX_IN], keep[MAX_IN];
    for (int k = 0; k < n->n_in; k++) {
        dan_ref in = n->in[k];
        saved[k] = in ? recompute(r, in, layer) : 0;
    }
    for (int k = 0; k < n->n_in; k++) keep[k] = r->map[n->in[k]];
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k]) r->map[n->in[k]] = saved[k];
    s->clone[f] = dan_rewrite_copy(r, f);
    for (int k = n->n_in - 1; k >= 0; k--)
        if (n->in[k]) r->map[n->in[k]] = keep[k];
    if (s->clone[f] > 0) r->g->node[s->clone[f]].recompute = true;
    return s->clone[f];
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (i < s->n_forward || n->n_in > MAX_IN) return DAN_KEEP;
    dan_ref keep[MAX_IN];
    for (int k = 0; k < n->n_in; k++) keep[k] = r->map[n->in[k]];
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] && n->in[k] < s->n_forward) r->map[n->in[k]] = recompute(r, n->in[k], n->layer);
    dan_ref copy = dan_rewrite_copy(r, i);
    for (int k = n->n_in - 1; k >= 0; k--)
        if (n->in[k]) r->map[n->in[k]] = keep[k];
    return copy;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    (void)o;
    struct state s = {dan_calloc((size_t)g->n, sizeof *s.clone), g->n_forward};
    if (!s.clone) return dan_fail(e, DAN_ENOMEM, "not enough memory for remat");
    int rc = s.n_forward ? dan_rewrite_each(g, visit, &s, e) : DAN_OK;
    dan_free(s.clone);
    return rc;
}

const struct dan_pass dan_pass_remat = {.name = "remat", .doc = "recomputes a layer's activations in its backward part", .run = run};
