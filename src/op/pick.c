/* pick: part `index` of a multi-output node.  No data moves; autodiff and the executor resolve it. */
#include "op/op.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0);
    int64_t i = n->attr[DAN_PICK_INDEX].i;
    if (i < 0 || i >= x->n_out) return dan_infer_fail(n, e, "part %lld of a node with %d parts", (long long)i, x->n_out);
    n->dtype = x->n_out > 1 ? x->part[i].dtype : x->dtype;
    n->shape = x->n_out > 1 ? x->part[i].shape : x->shape;
    n->n_out = 1;
    return DAN_OK;
}

DAN_OP(pick) = {
    .name = "pick", .doc = "part i of a multi-output node",
    .n_in = 1, .attrs = {{"index", 'i'}}, .infer = infer,
};
