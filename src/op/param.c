/* param: a trained tensor, bound by name from a store; `init` says how it begins. */
#include "op/op.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    (void)g; (void)n; (void)e;                 /* the declaration is the shape */
    return DAN_OK;
}

DAN_OP(param) = {
    .name = "param", .doc = "a trained tensor, bound by name from a store",
    .props = DAN_OP_LEAF | DAN_OP_NO_GRAD, .infer = infer,
};
