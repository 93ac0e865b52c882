/* add, sub, mul: same shapes, or the second input a vector [C] repeated over the rows of the first. */
#include "core/args.h"
#include "kernel/simd/rows.h"

enum kind { ADD, SUB, MUL };

static inline vf combine(enum kind k, vf x, vf y) { return k == ADD ? vf_add(x, y) : k == SUB ? vf_sub(x, y) : vf_mul(x, y); }

static inline void span(enum kind k, const float *x, const float *y, float *z, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(z + i, combine(k, vf_load(x + i), vf_load(y + i)));
    if (i < n) vf_store_n(z + i, combine(k, vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

static bool vector(const struct dan_args *a)
{
    return a->in[1].shape.n == 1 && a->out[0].shape.n > 1 && a->in[1].shape.d[0] == dan_cols(&a->out[0]) && dan_shape_equal(&a->in[0].shape, &a->out[0].shape);
}

static bool accepts(const struct dan_args *a)
{
    bool same = dan_shape_equal(&a->in[0].shape, &a->in[1].shape);
    return rows_f32(&a->in[0]) && rows_f32(&a->in[1]) && (same || vector(a));
}

static inline void run(enum kind k, const struct dan_args *a)
{
    bool vec = vector(a);
    struct rows r = rows_of(a, !vec && rows_contiguous(a, 2));
    if (r.flat) span(k, (const float *)a->in[0].data + r.lo, (const float *)a->in[1].data + r.lo, (float *)a->out[0].data + r.lo, r.hi - r.lo);
    for (int64_t i = r.lo; !r.flat && i < r.hi; i++)
        span(k, dan_row(&a->in[0], i), vec ? a->in[1].data : dan_row(&a->in[1], i), dan_row(&a->out[0], i), r.cols);
}

static void run_add(const struct dan_args *a) { run(ADD, a); }
static void run_sub(const struct dan_args *a) { run(SUB, a); }
static void run_mul(const struct dan_args *a) { run(MUL, a); }
