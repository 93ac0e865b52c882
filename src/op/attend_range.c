/* Which keys a row may see, as (base, lo, hi) for attend: base = start of its sequence, keys lo <= j < hi.
 *   causal: start .. self;  full: start .. stop-1;  window: the last w keys up to self;
 *   prefix: causal, and the first `prefix` keys are seen by all rows (GLM, Du et al. 2022; UniLM).
 * Nothing ever reaches beyond stop, so documents packed in one batch never see each other. */
#include "op/op.h"
#include "op/node.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *start = dan_in(g, n, 0);
    int64_t mask = n->attr[DAN_RANGE_MASK].i, window = n->attr[DAN_RANGE_WINDOW].i;
    for (int i = 0; i < n->n_in; i++) {
        const struct dan_node *x = dan_in_opt(g, n, i);
        if (x && (x->dtype != &dan_dtype_i32 || x->shape.n != 1 || x->shape.d[0] != start->shape.d[0]))
            return dan_infer_fail(n, e, "input %d must be i32 [N], one value a row", i);
    }
    if (mask < DAN_MASK_CAUSAL || mask > DAN_MASK_PREFIX)
        return dan_infer_fail(n, e, "mask %lld does not exist: use one of enum dan_mask", (long long)mask);
    if (mask == DAN_MASK_WINDOW && window <= 0)
        return dan_infer_fail(n, e, "window %lld is empty: give a positive width", (long long)window);
    if (mask == DAN_MASK_PREFIX && !dan_in_opt(g, n, 3)) return dan_infer_fail(n, e, "the prefix mask needs prefix lengths: give input 3");
    n->n_out = 1;
    n->dtype = &dan_dtype_i32;
    n->shape = DAN_SHAPE(start->shape.d[0], 3);
    return DAN_OK;
}

static int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }

static void ref(const struct dan_args *a)
{
    const int32_t *start = a->in[0].data, *stop = a->in[1].data, *self = a->in[2].data, *prefix = a->in[3].data;
    int64_t mask = a->attr[DAN_RANGE_MASK].i, window = a->attr[DAN_RANGE_WINDOW].i, lo, hi;
    dan_share(a, a->out[0].shape.d[0], 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        int32_t *r = dan_row(&a->out[0], i);
        r[0] = r[1] = start[i];
        r[2] = mask == DAN_MASK_FULL ? stop[i] : min32(stop[i], self[i] + 1);
        if (mask == DAN_MASK_WINDOW && window < self[i] + 1 - start[i]) r[1] = self[i] + 1 - (int32_t)window;
        if (mask == DAN_MASK_PREFIX) r[2] = min32(stop[i], max32(r[2], start[i] + prefix[i]));
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    *flops = 4.0 * (double)n->shape.d[0];
    *bytes = dan_cost_bytes(g, n);
}

static bool sample(struct dan_sample *s, int i)
{
    static const enum dan_mask mask[] = {DAN_MASK_CAUSAL, DAN_MASK_FULL, DAN_MASK_WINDOW, DAN_MASK_PREFIX};
    if (i >= 4) return false;
    struct dan_shape n = DAN_SHAPE(s->rows);
    s->no_grad = true;
    dan_ref start = s->ints(s, n, 8, true), stop = s->ints(s, n, 64, true), self = s->ints(s, n, 64, true);
    s->y = dan_attend_range(s->b, start, stop, self, i == 3 ? s->ints(s, n, 16, true) : 0, mask[i], i == 2 ? 5 : 0);
    return true;
}

DAN_OP(attend_range) = {
    .name = "attend_range",
    .doc = "which keys a row may see: (base, lo, hi) from start, stop, self",
    .n_in = 4,
    .n_opt = 1,
    .props = DAN_OP_NO_GRAD,
    .attrs = {{"mask", 'i'}, {"window", 'i'}},
    .infer = infer,
    .ref = ref,
    .cost = cost,
    .sample = sample,
};
