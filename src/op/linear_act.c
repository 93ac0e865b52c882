/* Parts: h = op(a) op(b) + bias and act(h), act of h before it is stored (matmul.c, without residual and gate).
 * Training needs both: made by fuse_bias_act after autodiff, so it has no gradient. */
#include "op/op.h"
#include "core/actfn.h"
#include "op/node.h"

#ifdef DAN_REAL64
extern const struct dan_op dan_op64_matmul;
#define MATMUL dan_op64_matmul
#else
#define MATMUL dan_op_matmul
#endif

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    struct dan_node m = *n;
    int rc = dan_op_matmul.infer(g, &m, e);
    if (!rc) rc = dan_node_parts(g, n, 2, e);
    if (rc) return rc;
    if (!n->attr[DAN_MATMUL_ACT].i || n->attr[DAN_MATMUL_GATE].i || n->in[3])
        return dan_infer_fail(n, e, "it needs an activation and takes no gate and no residual: use matmul");
    dan_node_part(n, 0, m.dtype, m.shape);
    dan_node_part(n, 1, m.dtype, m.shape);
    return DAN_OK;
}

static size_t ref_ws(const struct dan_args *a, int nth) { return dan_op_matmul.ref_ws(a, nth); }

/* The product shares columns in units of 16; so does this. */
static void ref(const struct dan_args *a)
{
    union dan_attr attr[DAN_MAX_ATTR];
    struct dan_args m = *a;
    int64_t lo, hi, kind = a->attr[DAN_MATMUL_ACT].i;
    memcpy(attr, a->attr, sizeof attr);
    attr[DAN_MATMUL_ACT].i = DAN_ACT_NONE;
    m.attr = attr;
    m.n_out = 1;
    MATMUL.ref(&m);
    dan_share(a, dan_cols(&a->out[0]), 16, &lo, &hi);
    for (int64_t r = 0; r < dan_rows(&a->out[0]); r++) {
        const real *h = dan_row(&a->out[0], r);
        real *y = dan_row(&a->out[1], r);
        for (int64_t j = lo; j < hi; j++) y[j] = act_value(kind, h[j]);
    }
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_op_matmul.cost(g, n, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    static const struct { enum dan_act act; enum dan_prec prec; int64_t k, n; } form[] = {
        {DAN_ACT_GELU, DAN_PREC_F32, 64, 48}, {DAN_ACT_GELU_TANH, DAN_PREC_F32, 33, 17}, {DAN_ACT_SILU, DAN_PREC_F32, 64, 64},
        {DAN_ACT_RELU, DAN_PREC_BF16, 70, 50}, {DAN_ACT_GELU_TANH, DAN_PREC_BF16, 64, 64}, {DAN_ACT_TANH, DAN_PREC_BF16, 64, 33},
    };
    if (i >= (int)(sizeof form / sizeof *form)) return false;
    s->no_grad = true;
    dan_ref x = s->real(s, DAN_SHAPE(s->rows, form[i].k), 1, true), w = s->real(s, DAN_SHAPE(form[i].n, form[i].k), 0.2, false);
    dan_ref bias = i % 2 ? 0 : s->real(s, DAN_SHAPE(form[i].n), 1, false);
    s->y = dan_linear_act(s->b, x, w, bias, form[i].prec, form[i].act);
    return true;
}

DAN_OP(linear_act) = {
    .name = "linear_act",
    .doc = "parts h = op(a) op(b) + bias, act(h)",
    .n_in = 7, .half_in = 0x3, .half_out = 0x3,
    .n_opt = 5,
    .props = DAN_OP_NO_GRAD,
    .attrs = {{"ta", 'i'}, {"tb", 'i'}, {"prec", 'i'}, {"act", 'i'}, {"gate", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .cost = cost,
    .sample = sample,
};
