/* The cases of `danlu bench ops`.  Shapes are those of a step of three GPTs: 0.8 M (C 128, N 768), 10 M (C 384, N 4096),
 * 124 M (C 768, N 1024); the working sets reach from L2 to memory. */
#include <math.h>
#include <string.h>
#include "cli/bench.h"
#include "core/rounded.h"
#include "op/fake_quant.h"
#include "op/ops.h"

static struct bench_leaf *new_leaf(struct bench_build *x, const struct dan_dtype *type, struct dan_shape s, int64_t below)
{
    static const char *const names[BENCH_LEAVES] = {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"};
    DAN_ASSERT(x->n_leaves < BENCH_LEAVES);
    struct bench_leaf *l = &x->leaf[x->n_leaves];
    *l = (struct bench_leaf){.name = names[x->n_leaves++], .t = dan_tensor_of(type, s, NULL), .below = below};
    return l;
}

static dan_ref add_leaf(struct bench_build *x, const struct dan_dtype *type, struct dan_shape s, int64_t below)
{
    return dan_input(&x->b, new_leaf(x, type, s, below)->name, type, s, 0);
}

/* Activations; leaves are f32, so what is stored as bf16 has a maker in front. */
static dan_ref f32(struct bench_build *x, struct dan_shape s)
{
    dan_ref r = add_leaf(x, &dan_dtype_f32, s, 0);
    return x->half && s.n >= 2 ? dan_scale(&x->b, r, 1) : r;
}
static dan_ref weight(struct bench_build *x, struct dan_shape s) { return add_leaf(x, &dan_dtype_f32, s, 0); }
static dan_ref rows(struct bench_build *x) { return f32(x, DAN_SHAPE(x->d[0], x->d[1])); }                       /* [N,C] */
static dan_ref vector(struct bench_build *x) { return f32(x, DAN_SHAPE(x->d[1])); }                               /* [C] */
static dan_ref ids(struct bench_build *x, int64_t below) { return add_leaf(x, &dan_dtype_i32, DAN_SHAPE(x->d[0]), below); }   /* [N] */

static dan_ref layer_norm(struct bench_build *x)
{
    dan_ref a = rows(x), g = vector(x);
    return dan_layer_norm(&x->b, a, g, vector(x), 1e-5);
}
static dan_ref rms_norm(struct bench_build *x) { dan_ref a = rows(x); return dan_rms_norm(&x->b, a, vector(x), 1e-5); }
static dan_ref quantise_groups(struct bench_build *x) { return dan_quantise_rows(&x->b, rows(x), DAN_ROUNDED_GROUPS); }
static dan_ref quantise_each(struct bench_build *x) { return dan_quantise_rows(&x->b, rows(x), DAN_ROUNDED_ROWS); }
static dan_ref skip_layer_norm(struct bench_build *x)
{
    dan_ref a = rows(x), y = rows(x), g = vector(x);
    return dan_skip_layer_norm(&x->b, a, y, g, vector(x), 1e-5);
}
static dan_ref skip_rms_norm(struct bench_build *x)
{
    dan_ref a = rows(x), y = rows(x);
    return dan_skip_rms_norm(&x->b, a, y, vector(x), 1e-5);
}
static dan_ref layer_norm_grad(struct bench_build *x)
{
    dan_ref a = rows(x), g = vector(x), dy = rows(x);
    return dan_layer_norm_grad(&x->b, a, g, dy, rows(x), 1e-5);
}
static dan_ref rms_norm_grad(struct bench_build *x)
{
    dan_ref a = rows(x), g = vector(x), dy = rows(x);
    return dan_rms_norm_grad(&x->b, a, g, dy, rows(x), 1e-5);
}

static dan_ref softmax(struct bench_build *x) { return dan_softmax(&x->b, rows(x)); }
static dan_ref softmax_ce(struct bench_build *x) { dan_ref a = rows(x); return dan_softmax_ce(&x->b, a, ids(x, x->d[1])); }
static dan_ref softmax_ce_grad(struct bench_build *x)
{
    dan_ref a = rows(x), t = ids(x, x->d[1]);
    return dan_softmax_ce_grad(&x->b, a, t, f32(x, DAN_SHAPE(x->d[0])));
}
static dan_ref head(struct bench_build *x, bool grad, enum dan_prec p)          /* d: N, C, V */
{
    dan_ref a = rows(x), w = weight(x, DAN_SHAPE(x->d[2], x->d[1])), t = ids(x, x->d[2]);
    if (!grad) return dan_head_ce(&x->b, a, w, t, 2048, p);
    return dan_head_ce_grad(&x->b, a, w, t, f32(x, DAN_SHAPE(x->d[0])), 2048, p);
}
static dan_ref head_ce(struct bench_build *x) { return head(x, false, DAN_PREC_F32); }
static dan_ref head_ce_grad(struct bench_build *x) { return head(x, true, DAN_PREC_F32); }
static dan_ref head_ce_grad_bf16(struct bench_build *x) { return head(x, true, DAN_PREC_BF16); }

static dan_ref add(struct bench_build *x) { dan_ref a = rows(x); return dan_add(&x->b, a, rows(x)); }
static dan_ref mul(struct bench_build *x) { dan_ref a = rows(x); return dan_mul(&x->b, a, rows(x)); }
static dan_ref scale(struct bench_build *x) { return dan_scale(&x->b, rows(x), 0.5); }
static dan_ref gelu(struct bench_build *x) { return dan_gelu_tanh(&x->b, rows(x)); }
static dan_ref gelu_grad(struct bench_build *x) { dan_ref a = rows(x); return dan_act_grad(&x->b, a, rows(x), DAN_ACT_GELU_TANH); }
static dan_ref swiglu(struct bench_build *x) { return dan_swiglu(&x->b, rows(x)); }
static dan_ref swiglu_grad(struct bench_build *x)
{
    dan_ref gate_up = rows(x);
    return dan_swiglu_grad(&x->b, gate_up, f32(x, DAN_SHAPE(x->d[0], x->d[1] / 2)));
}
static dan_ref sub(struct bench_build *x) { dan_ref a = rows(x); return dan_sub(&x->b, a, rows(x)); }
static dan_ref copy(struct bench_build *x) { return dan_copy(&x->b, rows(x)); }
static dan_ref dropout(struct bench_build *x)
{
    dan_ref a = rows(x);
    return dan_dropout(&x->b, a, add_leaf(x, &dan_dtype_i32, DAN_SHAPE(2), 100), 0.1);
}
static dan_ref rope_table(struct bench_build *x)
{
    struct dan_rope r = {0};
    dan_rope_complete(&r, 64, x->d[2]);
    return dan_rope_table(&x->b, ids(x, x->d[2]), 0, 0, &r);
}
static dan_ref rope(struct bench_build *x) { dan_ref a = rows(x); return dan_rope(&x->b, a, weight(x, DAN_SHAPE(x->d[0], 64)), 64, 0); }
static dan_ref sum(struct bench_build *x) { return dan_sum(&x->b, rows(x), 0); }
static dan_ref embed(struct bench_build *x)
{
    dan_ref w = weight(x, DAN_SHAPE(x->d[2], x->d[1]));
    return dan_embed(&x->b, w, ids(x, x->d[2]));
}
static dan_ref scatter_add(struct bench_build *x)
{
    dan_ref w = weight(x, DAN_SHAPE(x->d[2], x->d[1])), r = rows(x);
    return dan_scatter_add(&x->b, w, r, ids(x, x->d[2]));
}

/* d: N rows into a cache [S,C] */
static dan_ref cache(struct bench_build *x)
{
    struct dan_shape s = DAN_SHAPE(x->d[2], x->d[1]);
    return dan_state(&x->b, new_leaf(x, &dan_dtype_f32, s, 0)->name, &dan_dtype_f32, s);
}
static dan_ref kv_write(struct bench_build *x) { dan_ref c = cache(x), r = rows(x); return dan_kv_write(&x->b, c, r, ids(x, x->d[2])); }
static dan_ref rope_kv_write(struct bench_build *x)
{
    dan_ref c = cache(x), r = rows(x), slot = ids(x, x->d[2]);
    return dan_rope_kv_write(&x->b, c, r, slot, weight(x, DAN_SHAPE(x->d[0], 64)), 64);
}

/* Causal ranges of B sequences of T rows. */
static void causal(struct dan_tensor *t, const int64_t *d)
{
    int32_t *r = t->data;
    for (int64_t i = 0; i < d[0] * d[1]; i++) {
        int32_t base = (int32_t)(i / d[1] * d[1]);
        r[3 * i] = r[3 * i + 1] = base;
        r[3 * i + 2] = (int32_t)i + 1;
    }
}

static dan_ref attention(struct bench_build *x, bool grad)                      /* d: B, T, H, D */
{
    const int64_t n = x->d[0] * x->d[1], h = x->d[2], dim = x->d[3];
    struct dan_shape s = DAN_SHAPE(n, h * dim);
    double scores = (double)n * (double)(x->d[1] + 1) / 2 * (double)h, by = 1 / sqrt((double)dim);
    dan_ref q = f32(x, s), k = f32(x, s), v = f32(x, s), range = add_leaf(x, &dan_dtype_i32, DAN_SHAPE(n, 3), 0);
    x->leaf[x->n_leaves - 1].fill = causal;
    x->flops = scores * (double)dim * (grad ? 10 : 4);
    if (!grad) return dan_attend(&x->b, q, k, v, range, h, h, by);
    dan_ref o = f32(x, s), lse = f32(x, DAN_SHAPE(n, h));
    return dan_attend_grad(&x->b, q, k, v, range, o, lse, f32(x, s), h, h, by, 0);
}
static dan_ref attend(struct bench_build *x) { return attention(x, false); }
static dan_ref attend_grad(struct bench_build *x) { return attention(x, true); }

/* d: M, N, K.  Forward: x [M,K] w [N,K]; to the input: dy [M,N] w [N,K]... as op(a) op(b) of the same three numbers. */
static dan_ref product(struct bench_build *x, int ta, int tb, enum dan_prec p)
{
    const int64_t m = x->d[0], n = x->d[1], k = x->d[2];
    dan_ref a = f32(x, ta ? DAN_SHAPE(k, m) : DAN_SHAPE(m, k));
    struct dan_shape bs = tb ? DAN_SHAPE(n, k) : DAN_SHAPE(k, n);
    dan_ref b = ta ? f32(x, bs) : weight(x, bs);                   /* of a weight's gradient, both are activations */
    dan_ref y = dan_matmul(&x->b, a, b, ta, tb);
    if (y) x->b.g->node[y].attr[DAN_MATMUL_PREC].i = p;
    return y;
}
static dan_ref matmul(struct bench_build *x) { return product(x, 0, 1, DAN_PREC_F32); }
static dan_ref matmul_bf16(struct bench_build *x) { return product(x, 0, 1, DAN_PREC_BF16); }
static dan_ref matmul_input(struct bench_build *x) { return product(x, 0, 0, DAN_PREC_F32); }
static dan_ref matmul_input_bf16(struct bench_build *x) { return product(x, 0, 0, DAN_PREC_BF16); }
static dan_ref matmul_weight(struct bench_build *x) { return product(x, 1, 0, DAN_PREC_F32); }
static dan_ref matmul_weight_bf16(struct bench_build *x) { return product(x, 1, 0, DAN_PREC_BF16); }
static dan_ref linear_act_of(struct bench_build *x, enum dan_prec prec)
{
    dan_ref a = f32(x, DAN_SHAPE(x->d[0], x->d[2])), w = add_leaf(x, &dan_dtype_f32, DAN_SHAPE(x->d[1], x->d[2]), 0);
    return dan_linear_act(&x->b, a, w, 0, prec, DAN_ACT_GELU_TANH);
}
static dan_ref linear_act(struct bench_build *x) { return linear_act_of(x, DAN_PREC_F32); }
static dan_ref linear_act_bf16(struct bench_build *x) { return linear_act_of(x, DAN_PREC_BF16); }
/* d: N, C; groups of 32, as in training for few bits. */
static dan_ref fake_quant(struct bench_build *x) { return dan_fake_quant_dynamic(&x->b, rows(x), (struct dan_quant_grid){8, 32, 0}); }
static dan_ref fake_quant_step(struct bench_build *x)
{
    dan_ref a = rows(x), s = f32(x, DAN_SHAPE(x->d[0], x->d[1] / 32));
    return dan_fake_quant_step(&x->b, a, s, (struct dan_quant_grid){4, 32, DAN_QUANT_F16}, DAN_RULE_LSQ, 0, 1);
}
static dan_ref fake_quant_step_grad(struct bench_build *x)
{
    const union dan_attr attr[] = {DAN_I(4), DAN_I(32), DAN_I(DAN_QUANT_F16), DAN_I(DAN_RULE_LSQ), DAN_F(0), DAN_F(1)};
    dan_ref a = rows(x), s = f32(x, DAN_SHAPE(x->d[0], x->d[1] / 32));
    return dan_emit(&x->b, &dan_op_fake_quant_step_grad, (const dan_ref[]){a, s, rows(x)}, 3, attr, 6);
}
static dan_ref quantised(struct bench_build *x, const struct dan_dtype *t)
{
    dan_ref a = f32(x, DAN_SHAPE(x->d[0], x->d[2]));
    struct bench_leaf *w = new_leaf(x, t, DAN_SHAPE(x->d[1], x->d[2]), 0);
    w->param = true;
    return dan_matmul(&x->b, a, dan_param(&x->b, w->name, t, w->t.shape, ""), 0, 1);
}
static dan_ref matmul_q8_0(struct bench_build *x) { return quantised(x, &dan_dtype_q8_0); }
static dan_ref matmul_q4_0(struct bench_build *x) { return quantised(x, &dan_dtype_q4_0); }
static dan_ref matmul_q4_k(struct bench_build *x) { return quantised(x, &dan_dtype_q4_k); }
static dan_ref matmul_q6_k(struct bench_build *x) { return quantised(x, &dan_dtype_q6_k); }

const struct bench_case bench_cases[] = {
    {"layer_norm", "N C", {768, 128}, layer_norm, NULL},
    {"layer_norm", "N C", {4096, 384}, layer_norm, NULL},
    {"layer_norm", "N C", {16384, 768}, layer_norm, NULL},
    {"layer_norm_grad", "N C", {768, 128}, layer_norm_grad, NULL},
    {"layer_norm_grad", "N C", {4096, 384}, layer_norm_grad, NULL},
    {"layer_norm_grad", "N C", {16384, 768}, layer_norm_grad, NULL},
    {"skip_layer_norm", "N C", {768, 128}, skip_layer_norm, NULL},
    {"skip_layer_norm", "N C", {4096, 384}, skip_layer_norm, NULL},
    {"skip_layer_norm", "N C", {16384, 768}, skip_layer_norm, NULL},
    {"rms_norm", "N C", {768, 128}, rms_norm, NULL},
    {"rms_norm", "N C", {4096, 384}, rms_norm, NULL},
    {"rms_norm", "N C", {16384, 768}, rms_norm, NULL},
    {"quantise_rows", "N C", {4096, 768}, quantise_groups, "by groups of 32"},
    {"quantise_rows", "N C", {4096, 768}, quantise_each, "by row"},
    {"rms_norm_grad", "N C", {768, 128}, rms_norm_grad, NULL},
    {"rms_norm_grad", "N C", {4096, 384}, rms_norm_grad, NULL},
    {"skip_rms_norm", "N C", {4096, 384}, skip_rms_norm, NULL},
    {"softmax", "N C", {1024, 1024}, softmax, NULL},
    {"softmax_ce", "N V", {768, 65}, softmax_ce, NULL},
    {"softmax_ce", "N V", {1024, 4096}, softmax_ce, NULL},
    {"softmax_ce", "N V", {1024, 50257}, softmax_ce, NULL},
    {"softmax_ce_grad", "N V", {768, 65}, softmax_ce_grad, NULL},
    {"softmax_ce_grad", "N V", {1024, 4096}, softmax_ce_grad, NULL},
    {"softmax_ce_grad", "N V", {1024, 50257}, softmax_ce_grad, NULL},
    {"head_ce", "N C V", {1024, 768, 8192}, head_ce, NULL},
    {"head_ce_grad", "N C V", {1024, 768, 8192}, head_ce_grad, NULL},
    {"head_ce_grad", "N C V", {1024, 768, 8192}, head_ce_grad_bf16, "bf16"},
    {"add", "N C", {768, 128}, add, NULL},
    {"add", "N C", {4096, 384}, add, NULL},
    {"add", "N C", {16384, 768}, add, NULL},
    {"sub", "N C", {4096, 384}, sub, NULL},
    {"mul", "N C", {4096, 384}, mul, NULL},
    {"scale", "N C", {4096, 384}, scale, NULL},
    {"act", "N C", {768, 512}, gelu, "gelu_tanh"},
    {"act", "N C", {4096, 1536}, gelu, "gelu_tanh"},
    {"act_grad", "N C", {768, 512}, gelu_grad, "gelu_tanh"},
    {"act_grad", "N C", {4096, 1536}, gelu_grad, "gelu_tanh"},
    {"swiglu", "N 2F", {4096, 2048}, swiglu, NULL},
    {"swiglu_grad", "N 2F", {4096, 2048}, swiglu_grad, NULL},
    {"fake_quant", "N C", {4096, 768}, fake_quant, "8 bits"},
    {"fake_quant_step", "N C", {4096, 768}, fake_quant_step, "LSQ, 4 bits"},
    {"fake_quant_step_grad", "N C", {4096, 768}, fake_quant_step_grad, "LSQ, 4 bits"},
    {"rope_table", "N C T", {4096, 64, 256}, rope_table, NULL},
    {"rope", "N C", {4096, 384}, rope, NULL},
    {"copy", "N C", {4096, 384}, copy, NULL},
    {"dropout", "N C", {4096, 384}, dropout, NULL},
    {"kv_write", "N C S", {512, 768, 2048}, kv_write, NULL},
    {"rope_kv_write", "N C S", {512, 768, 2048}, rope_kv_write, NULL},
    {"sum", "N C", {4096, 1536}, sum, "over rows"},
    {"embed", "N C V", {4096, 384, 8192}, embed, NULL},
    {"scatter_add", "N C V", {4096, 384, 8192}, scatter_add, NULL},
    {"attend", "B T H D", {12, 64, 4, 32}, attend, NULL},
    {"attend", "B T H D", {16, 256, 6, 64}, attend, NULL},
    {"attend", "B T H D", {1, 1024, 12, 64}, attend, NULL},
    {"attend", "B T H D", {1, 4096, 4, 64}, attend, NULL},
    {"attend_grad", "B T H D", {12, 64, 4, 32}, attend_grad, NULL},
    {"attend_grad", "B T H D", {16, 256, 6, 64}, attend_grad, NULL},
    {"attend_grad", "B T H D", {1, 1024, 12, 64}, attend_grad, NULL},
    {"attend_grad", "B T H D", {1, 4096, 4, 64}, attend_grad, NULL},
    {"linear_act", "M N K", {4096, 1536, 384}, linear_act, "gelu_tanh(x w)"},
    {"linear_act", "M N K", {768, 512, 128}, linear_act_bf16, "gelu_tanh(x w), bf16"},
    {"linear_act", "M N K", {4096, 1536, 384}, linear_act_bf16, "gelu_tanh(x w), bf16"},
    {"matmul", "M N K", {768, 384, 128}, matmul, "x w"},
    {"matmul", "M N K", {4096, 1536, 384}, matmul, "x w"},
    {"matmul", "M N K", {1024, 3072, 768}, matmul, "x w"},
    {"matmul", "M N K", {1024, 768, 3072}, matmul_input, "to the input"},
    {"matmul", "M N K", {3072, 768, 1024}, matmul_weight, "to the weight"},
    {"matmul", "M N K", {1, 3072, 768}, matmul, "x w"},
    {"matmul", "M N K", {8, 3072, 768}, matmul, "x w"},
    {"matmul", "M N K", {64, 3072, 768}, matmul, "x w"},
    {"matmul", "M N K", {768, 384, 128}, matmul_bf16, "x w, bf16"},
    {"matmul", "M N K", {4096, 1536, 384}, matmul_bf16, "x w, bf16"},
    {"matmul", "M N K", {1024, 3072, 768}, matmul_bf16, "x w, bf16"},
    {"matmul", "M N K", {1024, 768, 3072}, matmul_input_bf16, "to the input, bf16"},
    {"matmul", "M N K", {3072, 768, 1024}, matmul_weight_bf16, "to the weight, bf16"},
    {"matmul", "M N K", {64, 3072, 768}, matmul_bf16, "x w, bf16"},
    {"matmul", "M N K", {1, 3072, 768}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {64, 3072, 768}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {1024, 3072, 768}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {1, 5632, 2048}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {16, 5632, 2048}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {512, 5632, 2048}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {512, 2048, 5632}, matmul_q8_0, "x w, q8_0"},
    {"matmul", "M N K", {1, 5632, 2048}, matmul_q4_0, "x w, q4_0"},
    {"matmul", "M N K", {16, 5632, 2048}, matmul_q4_0, "x w, q4_0"},
    {"matmul", "M N K", {512, 5632, 2048}, matmul_q4_0, "x w, q4_0"},
    {"matmul", "M N K", {512, 2048, 2048}, matmul_q4_k, "x w, q4_k"},
    {"matmul", "M N K", {512, 2048, 2048}, matmul_q6_k, "x w, q6_k"},
    {NULL, NULL, {0}, NULL, NULL}};
