/* Rows of a tensor by their place along one axis: what concat and slice_grad share. */
#ifndef DAN_OP_AXIS_H
#define DAN_OP_AXIS_H
#include "op/util.h"

/* Row r of a tensor of shape s is (outer, at, inner) with `at` along the axis (not the last one). */
struct dan_axis_row { int64_t outer, at, inner, n_inner; };

static inline struct dan_axis_row dan_axis_row_of(const struct dan_shape *s, int axis, int64_t r)
{
    struct dan_axis_row p = {.n_inner = 1};
    for (int i = axis + 1; i + 1 < s->n; i++) p.n_inner *= s->d[i];
    p.inner = r % p.n_inner;
    p.at = r / p.n_inner % s->d[axis];
    p.outer = r / p.n_inner / s->d[axis];
    return p;
}

/* The row of another tensor that has `dim` elements along the axis, at place `at`. */
static inline int64_t dan_axis_row_in(struct dan_axis_row p, int64_t dim, int64_t at)
{
    return (p.outer * dim + at) * p.n_inner + p.inner;
}

#endif
