/* Mixed precision: matrix products round their operands to bf16 and sum in f32.  Weights,
 * gradients, optimiser state and everything between products stay f32. */
#include "pass/pass.h"

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    (void)e;
    for (int32_t i = 1; i < g->n; i++) {
        struct dan_node *n = &g->node[i];
        if (dan_op_is(n, "matmul")) n->attr[DAN_MATMUL_PREC].i = o->prec;
        if (dan_op_is(n, "head_ce") || dan_op_is(n, "head_ce_grad")) n->attr[DAN_CE_PREC].i = o->prec;
        if (n->body) {
            int rc = run((struct dan_graph *)n->body, o, e);
            if (rc) return rc;
        }
    }
    return DAN_OK;
}

const struct dan_pass dan_pass_mixed = {"mixed", "sets the precision of matrix products", run};
