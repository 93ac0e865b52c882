/* What an op file includes. */
#ifndef DAN_OP_OP_H
#define DAN_OP_OP_H
#include <math.h>
#include <string.h>
#include "graph/graph.h"
#include "op/attrs.h"
#include "op/ops.h"
#include "op/sample.h"

#ifdef DAN_REAL64
typedef double real;
#define DAN_OP(name) const struct dan_op dan_op64_##name
#define DAN_REAL_DTYPE (&dan_dtype_f64)
#else
typedef float real;
#define DAN_OP(name) const struct dan_op dan_op_##name
#define DAN_REAL_DTYPE (&dan_dtype_f32)
#endif

/* Helpers for infer: failures name the op and the place it was built. */
static inline const struct dan_node *dan_in(const struct dan_graph *g, const struct dan_node *n, int i) { return &g->node[n->in[i]]; }
int dan_infer_fail(const struct dan_node *n, struct dan_err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int dan_infer_same(const struct dan_graph *g, struct dan_node *n, struct dan_err *e);       /* as in[0] */
int dan_infer_broadcast(const struct dan_graph *g, struct dan_node *n, struct dan_err *e);  /* numpy rule over in[0], in[1] */
bool dan_is_float(const struct dan_dtype *t);                                               /* f32 or f64 */

#endif
