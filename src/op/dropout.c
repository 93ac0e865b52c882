/* y[i] = x[i] / (1 - p) where kept, else 0 (inverted dropout, Srivastava et al. 2014).
 *
 * Element i (flat, row-major) is kept when dan_u01(u) >= (float)p, u = lane i % 4 of
 * philox(key = seed[0] + 2^32 seed[1], stream, counter = i / 4).  p is compared in float in both
 * precisions, so that float kernels keep the very same elements.  The mask is never stored: the
 * gradient draws it again. */
#include "op/util.h"
#include "base/rng.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *seed = dan_in(g, n, 1);
    double p = n->attr[DAN_DROPOUT_P].f;
    if (seed->dtype != &dan_dtype_i32 || dan_shape_count(&seed->shape) != 2)
        return dan_infer_fail(n, e, "seed must be i32[2]: seed and step");
    if (!(p >= 0 && p < 1)) return dan_infer_fail(n, e, "probability %g is not in [0, 1): choose a smaller one", p);
    return dan_infer_float(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const int32_t *seed = a->in[1].data;
    const uint64_t key = (uint32_t)seed[0] | (uint64_t)(uint32_t)seed[1] << 32;
    const uint64_t stream = (uint64_t)a->attr[DAN_DROPOUT_STREAM].i;
    const float p = (float)a->attr[DAN_DROPOUT_P].f;
    const real gain = (real)(1 / (1 - a->attr[DAN_DROPOUT_P].f));
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        uint32_t u[4];
        for (int64_t c = 0, i = (a->row0 + r) * cols; c < cols; c++, i++) {
            if (c == 0 || i % 4 == 0) dan_philox(key, stream, (uint64_t)i / 4, u);
            yr[c] = dan_u01(u[i % 4]) >= p ? xr[c] * gain : 0;
        }
    }
}

/* The same mask over dy: same seed, same stream. */
static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node *n = dan_at(b->g, y);
    union dan_attr attr[2] = {n->attr[0], n->attr[1]};
    dx[0] = dan_emit(b, &dan_op_dropout, (const dan_ref[]){dy[0], n->in[1]}, 2, attr, 2);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 20, flops, bytes);     /* philox: 10 rounds per 4 elements */
}

static bool sample(struct dan_sample *s, int i)
{
    dan_ref x = dan_sample_input(s, i, 0.1, 2);
    if (!x) return false;
    s->y = dan_dropout(s->b, x, s->values(s, DAN_SHAPE(2), (const int32_t[]){-12345 + i, 7}, false), 0.1 + 0.15 * i);
    return true;
}

DAN_OP(dropout) = {
    .name = "dropout", .doc = "zeroes with probability p, scales the rest by 1/(1-p)",
    .n_in = 2, .half_in = 0x1, .half_out = 0x1, .props = DAN_OP_INPLACE | DAN_OP_RANDOM | DAN_OP_STRIDED, .attrs = {{"p", 'f'}, {"stream", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
