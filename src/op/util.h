/* What several op files share: the broadcasting walk, costs, axes, common samples. */
#ifndef DAN_OP_UTIL_H
#define DAN_OP_UTIL_H
#include "op/op.h"

/* Infers.  All but the last return 0 or, after dan_infer_fail, DAN_ESHAPE. */
int dan_infer_float(const struct dan_graph *g, struct dan_node *n, struct dan_err *e);   /* as in[0], which must be f32 or f64 */
int dan_infer_twin(const struct dan_graph *g, struct dan_node *n, struct dan_err *e);    /* in[0] and in[1]: float, same shape */
/* Fails with "shapes A and B: WHAT"; text is made on failure only, since infer runs at every rebind. */
int dan_infer_misfit(const struct dan_node *n, struct dan_err *e, const struct dan_shape *a, const struct dan_shape *b, const char *what);
int dan_infer_axis(const struct dan_node *n, int64_t axis, int rank, struct dan_err *e); /* 0..rank-1, or -1 and an error */

/* Axis counted from the front, -1 when there is no such axis. */
static inline int dan_axis(int64_t axis, int rank)
{
    int64_t at = axis < 0 ? axis + rank : axis;
    return at >= 0 && at < rank ? (int)at : -1;
}

/* The bounds of x[start:stop] on a dimension of `dim` elements, as in Python: negative values
 * count from the end, all is clamped, the result may be empty. */
static inline void dan_slice_bounds(int64_t dim, int64_t start, int64_t stop, int64_t *lo, int64_t *hi)
{
    if (start < 0) start += dim;
    if (stop < 0) stop += dim;
    *lo = start < 0 ? 0 : start < dim ? start : dim;
    *hi = stop < *lo ? *lo : stop < dim ? stop : dim;
}

/* Costs: bytes of all inputs and outputs; `each` flops per output element. */
double dan_cost_bytes(const struct dan_graph *g, const struct dan_node *n);
static inline void dan_cost_each(const struct dan_graph *g, const struct dan_node *n, double each, double *flops, double *bytes)
{
    *flops = each * (double)dan_shape_count(&n->shape);
    *bytes = dan_cost_bytes(g, n);
}

/* Gradient of a broadcast input: dy itself when x has its shape, else dy summed to it. */
dan_ref dan_unbroadcast(struct dan_builder *b, dan_ref dy, dan_ref x);

/* Samples of binary ops: same shape, both ways of stretching, 3-D, strided. */
typedef dan_ref dan_binary_fn(struct dan_builder *b, dan_ref x, dan_ref y);
/* |x| in [x_lo, x_hi] and |y| in [y_lo, y_hi]. */
struct dan_binary_range { double x_lo, x_hi, y_lo, y_hi; };
bool dan_sample_binary(struct dan_sample *s, int i, dan_binary_fn *op, struct dan_binary_range r);
/* The inputs of unary ops: [N,17], [N,3,7], [N,1], columns 3..36 of [N,40], a part of a split that
 * nobody else reads (its memory is free, but strided); 0 when there are no more. */
enum { DAN_SAMPLE_INPUTS = 5 };
dan_ref dan_sample_input(struct dan_sample *s, int i, double lo, double hi);

/* An input of a broadcasting op, aligned with the output's shape: stride 0 where it stretches. */
struct dan_operand { const char *data; int64_t stride[DAN_MAX_DIMS]; };

static inline struct dan_operand dan_operand_of(const struct dan_tensor *t, const struct dan_shape *out)
{
    struct dan_operand o = {.data = t->data};
    int skip = out->n - t->shape.n;
    for (int i = 0; i < t->shape.n; i++)
        o.stride[skip + i] = t->shape.d[i] == 1 ? 0 : t->stride[i];
    return o;
}

/* Start of the operand's row for row r of the output (rows as in dan_row). */
static inline const char *dan_operand_row(const struct dan_operand *o, const struct dan_shape *out, int64_t r)
{
    const char *p = o->data;
    for (int i = out->n - 2; i >= 0; i--) {
        p += (r % out->d[i]) * o->stride[i];
        r /= out->d[i];
    }
    return p;
}

/* 1, or 0 when the last dimension stretches. */
static inline int64_t dan_operand_step(const struct dan_operand *o, const struct dan_shape *out)
{
    return out->n > 0 && o->stride[out->n - 1] != 0;
}

/* y = f(x), row by row. */
static inline void dan_unary_ref(const struct dan_args *a, real (*f)(real))
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c++) yr[c] = f(xr[c]);
    }
}

/* z = f(x, y) with broadcasting, row by row. */
static inline void dan_binary_ref(const struct dan_args *a, real (*f)(real, real))
{
    const struct dan_tensor *z = &a->out[0];
    struct dan_operand x = dan_operand_of(&a->in[0], &z->shape), y = dan_operand_of(&a->in[1], &z->shape);
    int64_t dx = dan_operand_step(&x, &z->shape), dy = dan_operand_step(&y, &z->shape);
    int64_t lo, hi, cols = dan_cols(z);
    dan_share(a, dan_rows(z), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = (const real *)dan_operand_row(&x, &z->shape, r);
        const real *yr = (const real *)dan_operand_row(&y, &z->shape, r);
        real *zr = dan_row(z, r);
        for (int64_t c = 0; c < cols; c++) zr[c] = f(xr[c * dx], yr[c * dy]);
    }
}

#endif
