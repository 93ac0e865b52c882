/* y = x summed to the shape of `like`: the gradient of broadcasting.  Shapes are aligned at the
 * last dimension; dims that like lacks, or has as 1, are summed. */
#include "op/reduce.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_shape *x = &dan_in(g, n, 0)->shape, *like = &dan_in(g, n, 1)->shape;
    bool fits = like->n <= x->n;
    for (int i = 1; fits && i <= like->n; i++)
        fits = like->d[like->n - i] == 1 || like->d[like->n - i] == x->d[x->n - i];
    if (!fits) return dan_infer_misfit(n, e, x, like, "the second must have equal dims or 1, counted from the last");
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    n->shape = *like;
    return DAN_OK;
}

static void ref(const struct dan_args *a)
{
    const struct dan_shape *x = &a->in[0].shape, *like = &a->out[0].shape;
    struct dan_shape kept = {.n = x->n};
    if (x->n == 0) {
        if (a->ith == 0) memcpy(a->out[0].data, a->in[0].data, sizeof(real));
        return;
    }
    for (int i = 0, skip = x->n - like->n; i < x->n; i++) kept.d[i] = i < skip ? 1 : like->d[i - skip];
    dan_reduce_ref(a, &a->in[0], kept, a->out[0].data);
}

/* Stretches dy back: zeros of x's shape + dy. */
static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    dx[0] = dan_add(b, dan_fill_like(b, dan_at(b->g, y)->in[0], 0), dy[0]);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = (double)dan_shape_count(&dan_in(g, n, 0)->shape);
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    const int64_t N = s->rows;
    const struct { struct dan_shape x, like; bool dyn; } cases[] = {
        {DAN_SHAPE(N, 133), DAN_SHAPE(133), false}, {DAN_SHAPE(N, 17), DAN_SHAPE(N, 1), true},
        {DAN_SHAPE(N, 3, 7), DAN_SHAPE(3, 1), false}, {DAN_SHAPE(N, 3, 7), DAN_SHAPE(1), false},
        {DAN_SHAPE(N, 3, 7), DAN_SHAPE(1, 3, 7), false}, {DAN_SHAPE(N, 40), DAN_SHAPE(33), false},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    dan_ref x = s->real(s, cases[i].x, 1, true), like = s->real(s, cases[i].like, 1, cases[i].dyn);
    s->y = dan_sum_to(s->b, i == 5 ? dan_slice(s->b, x, 1, 3, 36) : x, like);
    return true;
}

DAN_OP(sum_to) = {
    .name = "sum_to", .doc = "sums x to the shape of another tensor: the gradient of broadcasting",
    .n_in = 2,
    .props = DAN_OP_LIKE, .infer = infer, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
