/* y[i] = q[i] with probability p, else x[i], where q is x quantised (Fan et al. 2021, "Training with quantization noise"; with
 * single numbers as blocks).  What is not quantised has its exact gradient and what is has a straight-through one: dx = dy.
 *
 * Element i (flat, row-major) is quantised when dan_u01(u) < (float)p, u as in dropout: lane i % 4 of philox(key = seed[0] +
 * 2^32 seed[1], stream, counter = i / 4).  A fresh seed[1] every run makes a fresh choice; p = 0 is x, p = 1 is q. */
#include "base/rng.h"
#include "op/fake_quant.h"
#include "op/util.h"

enum { P, STREAM };

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *seed = dan_in(g, n, 2);
    double p = n->attr[P].f;
    if (seed->dtype != &dan_dtype_i32 || dan_shape_count(&seed->shape) != 2)
        return dan_infer_fail(n, e, "seed must be i32[2]: seed and step");
    if (!(p >= 0 && p <= 1)) return dan_infer_fail(n, e, "rate %g is not in [0, 1]: choose one that is", p);
    return dan_infer_twin(g, n, e);
}

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *y = &a->out[0];
    const int32_t *seed = a->in[2].data;
    const uint64_t key = (uint32_t)seed[0] | (uint64_t)(uint32_t)seed[1] << 32, stream = (uint64_t)a->attr[STREAM].i;
    const float p = (float)a->attr[P].f;
    int64_t lo, hi, cols = dan_cols(y);
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *x = dan_row(&a->in[0], r), *q = dan_row(&a->in[1], r);
        real *yr = dan_row(y, r);
        uint32_t u[4];
        for (int64_t c = 0, i = (a->row0 + r) * cols; c < cols; c++, i++) {
            if (c == 0 || i % 4 == 0) dan_philox(key, stream, (uint64_t)i / 4, u);
            yr[c] = dan_u01(u[i % 4]) < p ? q[c] : x[c];
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
    const double p[] = {0.5, 0.1, 1};
    if (i > 2) return false;
    s->no_grad = true;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, 34), 1, true);
    dan_ref seed = s->values(s, DAN_SHAPE(2), (const int32_t[]){-12345 + i, 7}, false);
    s->y = dan_quant_noise(s->b, x, dan_fake_quant(s->b, x, 4, 17), seed, p[i], 3);
    return true;
}

DAN_OP(quant_noise) = {
    .name = "quant_noise", .doc = "takes the quantised number with probability p, else the exact one; the gradient goes to the exact one",
    .n_in = 3, .props = DAN_OP_RANDOM, .attrs = {{"p", 'f'}, {"stream", 'i'}},
    .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
