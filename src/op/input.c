/* input: a tensor the caller binds before a run; its first dimension may be dynamic. */
#include "op/op.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    (void)g; (void)n; (void)e;                 /* the declaration is the shape */
    return DAN_OK;
}

DAN_OP(input) = {
    .name = "input", .doc = "a tensor bound by the caller before each run",
    .props = DAN_OP_LEAF | DAN_OP_NO_GRAD, .attrs = {{"dynamic", 'i'}}, .infer = infer,
};
