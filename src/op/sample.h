/* Test cases of an op, built by the op itself through this struct: ops stay free of test code.
 * A sample builds inputs with random contents and applies the op; the table tests then check
 * gradients in double, kernels against ref, two sizes, zero rows, strides, threads. */
#ifndef DAN_OP_SAMPLE_H
#define DAN_OP_SAMPLE_H
#include "graph/graph.h"

struct dan_sample {
    struct dan_builder *b;
    /* Declares a float input filled from a normal distribution * scale; `dynamic` marks its first
     * dimension.  The dtype is f64 in gradient checks, f32 in kernel tests. */
    dan_ref (*real)(struct dan_sample *s, struct dan_shape shape, double scale, bool dynamic);
    /* As real, but every |x| is in [lo, hi]: keeps away from kinks. */
    dan_ref (*real_away)(struct dan_sample *s, struct dan_shape shape, double lo, double hi, bool dynamic);
    dan_ref (*ints)(struct dan_sample *s, struct dan_shape shape, int64_t below, bool dynamic);        /* i32, uniform in [0, below) */
    dan_ref (*values)(struct dan_sample *s, struct dan_shape shape, const int32_t *v, bool dynamic);   /* i32, given */
    const struct dan_dtype *dtype;             /* f32 or f64: what real() gives */
    int64_t rows;                              /* use for dynamic first dimensions: N varies between calls (may be 0) */
    dan_ref y;                                 /* set by the op's sample: its output node */
    bool no_grad;                              /* set: the case has no gradient (integers) */
    void *ctx;
};

#endif
