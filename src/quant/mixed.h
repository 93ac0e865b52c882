/* Mixed precision: one form for every group of matrices, so that the sum of costs is least and all of them fit in a budget of bytes. */
#ifndef DAN_QUANT_MIXED_H
#define DAN_QUANT_MIXED_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct dan_mixed_item { int n; const double *cost; const size_t *bytes; };     /* choices of one group */
struct dan_mixed_plan {
    int   *choice;                             /* [n]; the caller's array */
    double cost;                               /* sum: a prediction, as if costs added up */
    size_t bytes;                              /* sum: at most the budget */
    bool   exact;                              /* false: there were too many different sums and some were left out */
};
/* The knapsack with one choice a group, by the list of sums that no other beats in both bytes and cost: exact to the byte.  Fails when even the
 * smallest choices do not fit, saying what does. */
int dan_mixed_choose(const struct dan_mixed_item *item, size_t n, size_t budget, struct dan_mixed_plan *out, struct dan_err *e);

#endif
