/* Mixed precision: matrix products round their operands to bf16 and sum in f32, and what flows between products
 * is stored as bf16, which halves the traffic of a training step (PyTorch's autocast does the same).  The residual
 * stream and its gradient, statistics, losses, weights, their gradients and the optimiser's state stay f32.
 * Graphs with a cache (inference) keep f32 values: there the weights are the traffic. */
#include "base/mem.h"
#include "pass/pass.h"

static int set_precision(struct dan_graph *g, const struct dan_pass_opts *o)
{
    int n_states = 0;
    for (int32_t i = 1; i < g->n; i++) {
        struct dan_node *n = &g->node[i];
        if (dan_op_is(n, "matmul") || dan_op_is(n, "linear_act")) n->attr[DAN_MATMUL_PREC].i = o->prec;
        if (dan_op_is(n, "head_ce") || dan_op_is(n, "head_ce_grad")) n->attr[DAN_CE_PREC].i = o->prec;
        n_states += dan_op_is(n, "state");
        if (n->body) set_precision((struct dan_graph *)n->body, o);
    }
    return n_states;
}

/* A product that makes weights' gradients, or adds to the residual stream, keeps f32. */
static bool makes_halves(const struct dan_node *n)
{
    if (!dan_op_is(n, "matmul")) return n->op->half_out != 0;
    return !n->attr[DAN_MATMUL_TA].i && (!n->in[3] || n->attr[DAN_MATMUL_GATE].i);
}

/* Bits of the parts of every node that somebody needs as f32. */
static void find_needed(const struct dan_graph *g, uint32_t *f32)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (n->op->props & DAN_OP_VIEW || dan_op_is(n, "pick")) continue;
        for (int k = 0; k < n->n_in - !!(n->op->props & DAN_OP_LIKE); k++) {
            int part;
            if (k < 32 && n->op->half_in >> k & 1) continue;
            dan_ref r = dan_owner(g, n->in[k], &part);
            f32[r] |= 1u << part;
        }
    }
    for (int32_t i = 0; i < g->n_out; i++) {
        int part;
        dan_ref r = dan_owner(g, g->out[i], &part);
        f32[r] |= 1u << part;
    }
}

static void mark(struct dan_node *n, uint32_t f32)
{
    n->half = 0;
    if (!makes_halves(n)) return;
    for (int k = 0; k < n->n_out; k++) {
        const struct dan_dtype *t = n->n_out > 1 ? n->part[k].dtype : n->dtype;
        const struct dan_shape *s = n->n_out > 1 ? &n->part[k].shape : &n->shape;
        if (n->op->half_out >> k & 1 && !(f32 >> k & 1) && t == &dan_dtype_f32 && s->n >= 2) n->half |= (uint16_t)(1u << k);
    }
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    if (set_precision(g, o) || o->prec != DAN_PREC_BF16) return DAN_OK;
    uint32_t *f32 = dan_calloc((size_t)g->n, sizeof *f32);
    if (!f32) return dan_fail(e, DAN_ENOMEM, "not enough memory to choose precisions");
    find_needed(g, f32);
    for (int32_t i = 1; i < g->n; i++) mark(&g->node[i], f32[i]);
    dan_free(f32);
    return DAN_OK;
}

const struct dan_pass dan_pass_mixed = {
    .name = "mixed", .doc = "sets the precision of matrix products and of what is stored between them", .run = run,
};
