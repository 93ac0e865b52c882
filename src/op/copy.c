/* y = x, contiguous, whatever the strides of x.  Any dtype; f32 and bf16 also into each other (values that are
 * stored as bf16). */
#include "op/util.h"

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    int64_t lo, hi;
    size_t bytes = dan_dtype_bytes(y->dtype, dan_cols(y));
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        if (x->dtype == y->dtype) memcpy(dan_row(y, r), dan_row(x, r), bytes);
        else if (y->dtype == &dan_dtype_f32) x->dtype->to_f32(dan_row(x, r), dan_row(y, r), dan_cols(y));
        else y->dtype->from_f32(dan_row(x, r), dan_row(y, r), dan_cols(y));
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    (void)b, (void)y;
    dx[0] = dy[0];
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 0, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    if (i == DAN_SAMPLE_INPUTS) {
        s->no_grad = true;
        s->y = dan_copy(s->b, s->ints(s, DAN_SHAPE(s->rows, 7), 1000, true));
        return true;
    }
    dan_ref x = dan_sample_input(s, i, 0.1, 2);
    if (!x) return false;
    s->y = dan_copy(s->b, x);
    return true;
}

DAN_OP(copy) = {
    .name = "copy", .doc = "contiguous copy of a view",
    .n_in = 1, .half_in = 0x1, .half_out = 0x1, .props = DAN_OP_ELEMENTWISE | DAN_OP_ROWWISE | DAN_OP_BYTES | DAN_OP_STRIDED,
    .infer = dan_infer_same, .ref = ref, .vjp = vjp, .cost = cost, .sample = sample,
};
