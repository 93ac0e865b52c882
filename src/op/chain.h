/* What the op `chain`, its executor and the pass that makes it agree on. */
#ifndef DAN_OP_CHAIN_H
#define DAN_OP_CHAIN_H
#include "graph/graph.h"

/* An input [.., d] with the leading dims of the chain's first input is cut into rows with it; all others are seen whole
 * by every row. */
static inline bool dan_chain_per_row(const struct dan_shape *x, const struct dan_shape *first)
{
    if (x->n != first->n) return false;
    for (int i = 0; i + 1 < x->n; i++)
        if (x->d[i] != first->d[i]) return false;
    return true;
}

#endif
