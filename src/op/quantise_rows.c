/* Rows of activations rounded to int8 for products with quantised weights, once for all products that read them: core/rounded.h.
 * Made by the pass quantise_rows, so it has no gradient; which form is an attribute (enum dan_rounded). */
#include "op/op.h"
#include "op/rounded.h"

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0);
    if (!dan_is_float(x->dtype) || x->shape.n < 1) return dan_infer_fail(n, e, "x must be f32 or f64 with at least one dimension");
    if (n->attr[DAN_QUANTISE_FORM].i == DAN_ROUNDED_NOT) return dan_infer_fail(n, e, "form 0 does not round: give 1 (groups) or 2 (rows)");
    n->n_out = 1;
    n->dtype = x->dtype;
    n->shape = x->shape;
    return rounded_output(n, n->attr[DAN_QUANTISE_FORM].i, &n->dtype, &n->shape, e);
}

static size_t ref_ws(const struct dan_args *a, int nth) { return rounded_ws(a, nth); }

static void ref(const struct dan_args *a)
{
    int64_t lo, hi, k = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) rounded_row(a->attr[DAN_QUANTISE_FORM].i, dan_row(&a->in[0], r), k, rounded_tmp(a), dan_row(&a->out[0], r));
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 4, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const struct { int64_t k; int form; } form[] = {{32, 1}, {96, 1}, {128, 1}, {33, 2}, {1, 2}, {64, 2}, {131, 2}, {64, 1}, {40, 2}};
    if (i >= (int)(sizeof form / sizeof *form)) return false;
    s->no_grad = true;
    dan_ref x = dan_sample_columns(s, form[i].k, i >= 7);
    s->y = dan_quantise_rows(s->b, x, form[i].form);
    return true;
}

DAN_OP(quantise_rows) = {
    .name = "quantise_rows",
    .doc = "rows rounded to int8, with a scale per 32 values or per row",
    .n_in = 1, .props = DAN_OP_NO_GRAD | DAN_OP_ROWWISE,
    .attrs = {{"form", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
