/* Shapes and tensors: row-major, outermost dimension first.
 * One rule keeps kernels simple: the innermost stride is always one element (or one block);
 * outer strides are free, so slices of columns and of rows are views. */
#ifndef DAN_CORE_TENSOR_H
#define DAN_CORE_TENSOR_H
#include <stdbool.h>
#include "core/dtype.h"

enum { DAN_MAX_DIMS = 6 };

struct dan_shape { int32_t n; int64_t d[DAN_MAX_DIMS]; };

struct dan_tensor {                            /* a typed view; owns nothing */
    const struct dan_dtype *dtype;
    struct dan_shape shape;
    int64_t stride[DAN_MAX_DIMS];              /* bytes; stride[n-1] = dtype->bytes */
    void   *data;
};

#define DAN_SHAPE(...) dan_shape_of((const int64_t[]){__VA_ARGS__}, \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
struct dan_shape dan_shape_of(const int64_t *d, int n);
bool    dan_shape_equal(const struct dan_shape *a, const struct dan_shape *b);
/* Every dimension is at least 0, and those that are not 0 multiply to less than 2^48: what comes from a file is asked this
 * before anything else, so that neither counts nor strides nor bytes overflow, also of a tensor without elements. */
bool    dan_shape_fits(const struct dan_shape *s);
int64_t dan_shape_count(const struct dan_shape *s);              /* elements; 1 for n = 0 */
size_t  dan_shape_text(const struct dan_shape *s, char *out, size_t n);   /* "[64,128]" */

/* How values are stored: bf16, or f32. */
static inline bool dan_is_bf16(const struct dan_tensor *t) { return t->dtype == &dan_dtype_bf16; }
static inline bool dan_f32_or_bf16(const struct dan_tensor *t) { return t->dtype == &dan_dtype_f32 || dan_is_bf16(t); }

struct dan_tensor dan_tensor_of(const struct dan_dtype *t, struct dan_shape s, void *data);  /* contiguous */
bool    dan_tensor_contiguous(const struct dan_tensor *t);
size_t  dan_tensor_bytes(const struct dan_tensor *t);            /* of the elements, as if contiguous */

/* Rows: all dimensions but the last, flattened. */
static inline int64_t dan_cols(const struct dan_tensor *t) { return t->shape.n ? t->shape.d[t->shape.n - 1] : 1; }
static inline int64_t dan_rows(const struct dan_tensor *t)
{
    int64_t r = 1;
    for (int i = 0; i + 1 < t->shape.n; i++) r *= t->shape.d[i];
    return r;
}
static inline void *dan_row(const struct dan_tensor *t, int64_t r)
{
    char *p = t->data;
    for (int i = t->shape.n - 2; i > 0; i--) {
        p += (r % t->shape.d[i]) * t->stride[i];
        r /= t->shape.d[i];
    }
    return t->shape.n >= 2 ? p + r * t->stride[0] : p;
}

#endif
