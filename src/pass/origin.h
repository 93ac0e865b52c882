/* Lists of origins: nodes of the graph as built, ascending, 0-terminated; -i is the gradient of i.  Immutable, in the
 * graph's arena; NULL where memory ran out (they are for reports only). */
#ifndef DAN_PASS_ORIGIN_H
#define DAN_PASS_ORIGIN_H
#include "graph/graph.h"

/* Every node that has none comes from itself. */
void dan_origin_start(struct dan_graph *g);
/* The union; gives a or b back when it holds the other. */
const dan_ref *dan_origin_merge(struct dan_arena *m, const dan_ref *a, const dan_ref *b);
/* The gradients of a's nodes. */
const dan_ref *dan_origin_gradient(struct dan_arena *m, const dan_ref *a);

#endif
