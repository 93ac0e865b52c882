/* y = x + alpha / sqrt(L C) u, u uniform in [-1, 1): noise on embeddings (NEFTune, Jain et al. 2023).  x [N,C]; L = stop - start of the
 * row's sequence, so that packing changes no row's amplitude.
 *
 * Element i (flat, row-major) draws as dropout does: u = 2 dan_u01(lane i % 4 of philox(key = seed[0] + 2^32 seed[1], stream,
 * counter = i / 4)) - 1. */
#include "base/rng.h"
#include "op/util.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *seed = dan_in(g, n, 3);
    if (seed->dtype != &dan_dtype_i32 || dan_shape_count(&seed->shape) != 2) return dan_infer_fail(n, e, "seed must be i32[2]: seed and step");
    for (int k = 1; k < 3; k++) {
        const struct dan_node *at = dan_in(g, n, k);
        if (x->shape.n != 2 || at->dtype != &dan_dtype_i32 || at->shape.n != 1 || at->shape.d[0] != x->shape.d[0])
            return dan_infer_fail(n, e, "x must be [N,C], start and stop i32[N]");
    }
    return dan_infer_float(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const int32_t *start = a->in[1].data, *stop = a->in[2].data, *seed = a->in[3].data;
    const uint64_t key = (uint32_t)seed[0] | (uint64_t)(uint32_t)seed[1] << 32, stream = (uint64_t)a->attr[DAN_NOISE_STREAM].i;
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        const int64_t length = stop[r] > start[r] ? stop[r] - start[r] : 1;
        const real by = (real)(a->attr[DAN_NOISE_ALPHA].f / sqrt((double)length * (double)cols));
        uint32_t u[4];
        for (int64_t c = 0, i = (a->row0 + r) * cols; c < cols; c++, i++) {
            if (c == 0 || i % 4 == 0) dan_philox(key, stream, (uint64_t)i / 4, u);
            yr[c] = xr[c] + by * (real)(2 * dan_u01(u[i % 4]) - 1);
        }
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    (void)b, (void)y;
    dx[0] = dy[0];
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 20, flops, bytes);     /* philox: 10 rounds per 4 elements */
}

static bool sample(struct dan_sample *s, int i)
{
    if (i > 1) return false;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, 9 + 7 * i), 1, true);
    dan_ref start = s->ints(s, DAN_SHAPE(s->rows), 3, true), stop = s->ints(s, DAN_SHAPE(s->rows), 20, true);
    s->y = dan_noise(s->b, x, start, stop, s->values(s, DAN_SHAPE(2), (const int32_t[]){-12345 + i, 7}, false), 0.5 + i, 5);
    return true;
}

DAN_OP(noise) = {
    .name = "noise", .doc = "adds uniform noise of alpha / sqrt(length of the row's sequence * columns)",
    .n_in = 4, .props = DAN_OP_RANDOM, .attrs = {{"alpha", 'f'}, {"stream", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
