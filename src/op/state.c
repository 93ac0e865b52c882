/* state: what lives between runs (KV cache, running statistics); a write returns a new version (R4). */
#include "op/op.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    (void)g; (void)n; (void)e;                 /* the declaration is the shape */
    return DAN_OK;
}

DAN_OP(state) = {
    .name = "state", .doc = "a tensor that lives between runs; writes return a new version",
    .props = DAN_OP_LEAF | DAN_OP_NO_GRAD, .infer = infer,
};
