/* One line per op: how a model or a vjp appends it.  Shapes: N packed rows, C channels, H heads,
 * K kv heads, D head dim, V vocabulary, F ffn, S cache rows.  Every function returns a node, or 0
 * (poison) after recording the first error in the builder. */
#ifndef DAN_OP_OPS_H
#define DAN_OP_OPS_H
#include <stdint.h>
#include "core/rope.h"
#include "graph/graph.h"
#include "op/attrs.h"

#define DAN_AT_STR2(x) #x
#define DAN_AT_STR(x) DAN_AT_STR2(x)
/* dan_add(DAN_HERE(b), x, y): records file:line on the nodes that follow. */
static inline struct dan_builder *dan_here(struct dan_builder *b, const char *where) { b->where = where; return b; }
#define DAN_HERE(b) dan_here((b), __FILE__ ":" DAN_AT_STR(__LINE__))

#define DAN_I(v) ((union dan_attr){.i = (v)})
#define DAN_F(v) ((union dan_attr){.f = (v)})
#define DAN_EMIT(b, op, n_attr, attrs, ...) do_emit(b, &dan_op_##op, attrs, n_attr, (const dan_ref[]){__VA_ARGS__}, (int)(sizeof((const dan_ref[]){__VA_ARGS__}) / sizeof(dan_ref)))
#define DAN_NO_ATTR ((const union dan_attr[]){{0}})
static inline dan_ref do_emit(struct dan_builder *b, const struct dan_op *op, const union dan_attr *attr, int n_attr, const dan_ref *in, int n_in)
{
    return dan_emit(b, op, in, n_in, attr, n_attr);
}

extern const struct dan_op dan_op_input, dan_op_param, dan_op_state, dan_op_pick, dan_op_fill_like, dan_op_copy, dan_op_scale,
    dan_op_add, dan_op_sub, dan_op_mul, dan_op_div, dan_op_maximum, dan_op_where, dan_op_exp, dan_op_log, dan_op_sqrt, dan_op_act, dan_op_act_grad,
    dan_op_sum, dan_op_sum_all, dan_op_sum_to, dan_op_broadcast_like, dan_op_softmax, dan_op_softmax_grad,
    dan_op_softmax_ce, dan_op_softmax_ce_grad, dan_op_head_ce, dan_op_head_ce_grad,
    dan_op_layer_norm, dan_op_layer_norm_grad, dan_op_rms_norm, dan_op_rms_norm_grad, dan_op_skip_layer_norm, dan_op_skip_rms_norm,
    dan_op_rope, dan_op_rope_table, dan_op_attend, dan_op_attend_grad, dan_op_attend_range, dan_op_kv_write, dan_op_embed, dan_op_scatter_add,
    dan_op_dropout, dan_op_noise, dan_op_fake_quant, dan_op_concat, dan_op_slice, dan_op_slice_grad, dan_op_split, dan_op_split_dim, dan_op_merge_dims,
    dan_op_permute, dan_op_matmul, dan_op_linear_act, dan_op_swiglu, dan_op_swiglu_grad, dan_op_scan, dan_op_chain, dan_op_rope_kv_write,
    dan_op_quantise_rows;

/* constants and copies */
static inline dan_ref dan_fill_like(struct dan_builder *b, dan_ref x, double v) { return DAN_EMIT(b, fill_like, 1, &DAN_F(v), x); }      /* shape and dtype of x, all v */
static inline dan_ref dan_copy(struct dan_builder *b, dan_ref x) { return DAN_EMIT(b, copy, 0, DAN_NO_ATTR, x); }                        /* contiguous copy of a view */

/* elementwise; two inputs broadcast as in numpy (a declared dim of 1 stretches) */
static inline dan_ref dan_scale(struct dan_builder *b, dan_ref x, double by) { return DAN_EMIT(b, scale, 1, &DAN_F(by), x); }
static inline dan_ref dan_add(struct dan_builder *b, dan_ref x, dan_ref y) { return DAN_EMIT(b, add, 0, DAN_NO_ATTR, x, y); }
static inline dan_ref dan_sub(struct dan_builder *b, dan_ref x, dan_ref y) { return DAN_EMIT(b, sub, 0, DAN_NO_ATTR, x, y); }
static inline dan_ref dan_mul(struct dan_builder *b, dan_ref x, dan_ref y) { return DAN_EMIT(b, mul, 0, DAN_NO_ATTR, x, y); }
static inline dan_ref dan_div(struct dan_builder *b, dan_ref x, dan_ref y) { return DAN_EMIT(b, div, 0, DAN_NO_ATTR, x, y); }
static inline dan_ref dan_maximum(struct dan_builder *b, dan_ref x, dan_ref y) { return DAN_EMIT(b, maximum, 0, DAN_NO_ATTR, x, y); }
static inline dan_ref dan_where(struct dan_builder *b, dan_ref cond, dan_ref x, dan_ref y) { return DAN_EMIT(b, where, 0, DAN_NO_ATTR, cond, x, y); }  /* cond i32, rank of x, dims equal or 1; x and y same shape */
static inline dan_ref dan_exp(struct dan_builder *b, dan_ref x) { return DAN_EMIT(b, exp, 0, DAN_NO_ATTR, x); }
static inline dan_ref dan_log(struct dan_builder *b, dan_ref x) { return DAN_EMIT(b, log, 0, DAN_NO_ATTR, x); }
static inline dan_ref dan_sqrt(struct dan_builder *b, dan_ref x) { return DAN_EMIT(b, sqrt, 0, DAN_NO_ATTR, x); }
static inline dan_ref dan_act(struct dan_builder *b, dan_ref x, enum dan_act kind) { return DAN_EMIT(b, act, 1, &DAN_I(kind), x); }
static inline dan_ref dan_act_grad(struct dan_builder *b, dan_ref x, dan_ref dy, enum dan_act kind) { return DAN_EMIT(b, act_grad, 1, &DAN_I(kind), x, dy); }  /* dy * act'(x) */
static inline dan_ref dan_gelu(struct dan_builder *b, dan_ref x) { return dan_act(b, x, DAN_ACT_GELU); }
static inline dan_ref dan_gelu_tanh(struct dan_builder *b, dan_ref x) { return dan_act(b, x, DAN_ACT_GELU_TANH); }
static inline dan_ref dan_silu(struct dan_builder *b, dan_ref x) { return dan_act(b, x, DAN_ACT_SILU); }
static inline dan_ref dan_relu(struct dan_builder *b, dan_ref x) { return dan_act(b, x, DAN_ACT_RELU); }
static inline dan_ref dan_tanh(struct dan_builder *b, dan_ref x) { return dan_act(b, x, DAN_ACT_TANH); }
static inline dan_ref dan_sigmoid(struct dan_builder *b, dan_ref x) { return dan_act(b, x, DAN_ACT_SIGMOID); }
static inline dan_ref dan_swiglu(struct dan_builder *b, dan_ref gate_up) { return DAN_EMIT(b, swiglu, 0, DAN_NO_ATTR, gate_up); }        /* [N,2F] -> silu(first F) * last F */
static inline dan_ref dan_swiglu_grad(struct dan_builder *b, dan_ref gate_up, dan_ref dy) { return DAN_EMIT(b, swiglu_grad, 0, DAN_NO_ATTR, gate_up, dy); }
static inline dan_ref dan_dropout(struct dan_builder *b, dan_ref x, dan_ref seed, double p) { return p <= 0 ? x : DAN_EMIT(b, dropout, 2, ((const union dan_attr[]){DAN_F(p), DAN_I((int64_t)b->rng_streams++)}), x, seed); }  /* seed i32[2] = seed, step */
static inline dan_ref dan_noise(struct dan_builder *b, dan_ref x, dan_ref start, dan_ref stop, dan_ref seed, double alpha, int64_t stream) { return DAN_EMIT(b, noise, 2, ((const union dan_attr[]){DAN_F(alpha), DAN_I(stream)}), x, start, stop, seed); }  /* x [N,C]; start, stop i32[N]: of the row's sequence */
static inline dan_ref dan_fake_quant(struct dan_builder *b, dan_ref x, int bits, int64_t group) { return DAN_EMIT(b, fake_quant, 2, ((const union dan_attr[]){DAN_I(bits), DAN_I(group)}), x); }

static inline dan_ref dan_quantise_rows(struct dan_builder *b, dan_ref x, int form) { return DAN_EMIT(b, quantise_rows, 1, &DAN_I(form), x); }  /* int8 rows for products with quantised weights; form: enum dan_rounded */

/* reductions */
static inline dan_ref dan_sum(struct dan_builder *b, dan_ref x, int axis) { return DAN_EMIT(b, sum, 1, &DAN_I(axis), x); }               /* drops the axis */
static inline dan_ref dan_sum_all(struct dan_builder *b, dan_ref x) { return DAN_EMIT(b, sum_all, 0, DAN_NO_ATTR, x); }                  /* -> [1] */
static inline dan_ref dan_sum_to(struct dan_builder *b, dan_ref x, dan_ref like) { return DAN_EMIT(b, sum_to, 0, DAN_NO_ATTR, x, like); }  /* vjp of broadcasting */
static inline dan_ref dan_broadcast_like(struct dan_builder *b, dan_ref x, dan_ref like, int axis) { return DAN_EMIT(b, broadcast_like, 1, &DAN_I(axis), x, like); }  /* vjp of sum (axis) and sum_all (axis -1) */
static inline dan_ref dan_softmax(struct dan_builder *b, dan_ref x) { return DAN_EMIT(b, softmax, 0, DAN_NO_ATTR, x); }                  /* last axis */
static inline dan_ref dan_softmax_grad(struct dan_builder *b, dan_ref y, dan_ref dy) { return DAN_EMIT(b, softmax_grad, 0, DAN_NO_ATTR, y, dy); }

/* losses: targets i32[N], -1 = no loss for this row; loss [N] in nats */
static inline dan_ref dan_softmax_ce(struct dan_builder *b, dan_ref logits, dan_ref targets) { return DAN_EMIT(b, softmax_ce, 0, DAN_NO_ATTR, logits, targets); }
static inline dan_ref dan_softmax_ce_grad(struct dan_builder *b, dan_ref logits, dan_ref targets, dan_ref dloss) { return DAN_EMIT(b, softmax_ce_grad, 0, DAN_NO_ATTR, logits, targets, dloss); }
/* softmax_ce(x W^T) without ever holding [N,V]: x [N,C], w [V,C]; attrs: chunk, prec */
static inline dan_ref dan_head_ce(struct dan_builder *b, dan_ref x, dan_ref w, dan_ref targets, int64_t chunk, enum dan_prec p) { return DAN_EMIT(b, head_ce, 2, ((const union dan_attr[]){DAN_I(chunk), DAN_I(p)}), x, w, targets); }
/* parts: loss [N], dx [N,C], dw [V,C]: one pass over the vocabulary for loss and gradients */
static inline dan_ref dan_head_ce_grad(struct dan_builder *b, dan_ref x, dan_ref w, dan_ref targets, dan_ref dloss, int64_t chunk, enum dan_prec p) { return DAN_EMIT(b, head_ce_grad, 2, ((const union dan_attr[]){DAN_I(chunk), DAN_I(p)}), x, w, targets, dloss); }

/* norms over the last axis; beta may be 0; dres may be 0 (gradient that skips the norm, added to dx) */
static inline dan_ref dan_layer_norm(struct dan_builder *b, dan_ref x, dan_ref gamma, dan_ref beta, double eps) { return DAN_EMIT(b, layer_norm, 1, &DAN_F(eps), x, gamma, beta); }
static inline dan_ref dan_layer_norm_grad(struct dan_builder *b, dan_ref x, dan_ref gamma, dan_ref dy, dan_ref dres, double eps) { return DAN_EMIT(b, layer_norm_grad, 1, &DAN_F(eps), x, gamma, dy, dres); }  /* parts: dx, dgamma, dbeta */
static inline dan_ref dan_rms_norm(struct dan_builder *b, dan_ref x, dan_ref gamma, double eps) { return DAN_EMIT(b, rms_norm, 1, &DAN_F(eps), x, gamma); }
static inline dan_ref dan_rms_norm_grad(struct dan_builder *b, dan_ref x, dan_ref gamma, dan_ref dy, dan_ref dres, double eps) { return DAN_EMIT(b, rms_norm_grad, 1, &DAN_F(eps), x, gamma, dy, dres); }  /* parts: dx, dgamma */
static inline dan_ref dan_skip_layer_norm(struct dan_builder *b, dan_ref x, dan_ref y, dan_ref gamma, dan_ref beta, double eps) { return DAN_EMIT(b, skip_layer_norm, 1, &DAN_F(eps), x, y, gamma, beta); }  /* parts: x+y, norm(x+y) */
static inline dan_ref dan_skip_rms_norm(struct dan_builder *b, dan_ref x, dan_ref y, dan_ref gamma, double eps) { return DAN_EMIT(b, skip_rms_norm, 1, &DAN_F(eps), x, y, gamma); }

/* attention over packed rows: q [N,H*D], k, v [S,K*D] or caches [K,S,E] (core/kv.h), range i32[N,3] = (base, lo, hi): row i sees
 * key rows lo <= j < hi; base = first key row of its sequence (blocks of keys are counted from it,
 * so that a row's result does not depend on where its sequence lies).  Parts: o [N,H*D], lse [N,H]. */
static inline dan_ref dan_attend_capped(struct dan_builder *b, dan_ref q, dan_ref k, dan_ref v, dan_ref range, int64_t heads, int64_t kv_heads, double scale, double cap) { return DAN_EMIT(b, attend, 4, ((const union dan_attr[]){DAN_I(heads), DAN_I(kv_heads), DAN_F(scale), DAN_F(cap)}), q, k, v, range); }  /* cap > 0: scores are cap tanh(score / cap) */
static inline dan_ref dan_attend(struct dan_builder *b, dan_ref q, dan_ref k, dan_ref v, dan_ref range, int64_t heads, int64_t kv_heads, double scale) { return dan_attend_capped(b, q, k, v, range, heads, kv_heads, scale, 0); }
static inline dan_ref dan_attend_grad(struct dan_builder *b, dan_ref q, dan_ref k, dan_ref v, dan_ref range, dan_ref o, dan_ref lse, dan_ref d_o, int64_t heads, int64_t kv_heads, double scale, double cap) { return DAN_EMIT(b, attend_grad, 4, ((const union dan_attr[]){DAN_I(heads), DAN_I(kv_heads), DAN_F(scale), DAN_F(cap)}), q, k, v, range, o, lse, d_o); }  /* parts: dq, dk, dv */
/* start, stop i32[N]: key rows of the row's sequence; self i32[N]: its own key row; prefix i32[N] (mask
 * PREFIX): keys start..start+prefix are seen by all rows of the sequence.  -> range i32[N,3] */
static inline dan_ref dan_attend_range(struct dan_builder *b, dan_ref start, dan_ref stop, dan_ref self, dan_ref prefix, enum dan_mask mask, int64_t window) { return DAN_EMIT(b, attend_range, 2, ((const union dan_attr[]){DAN_I(mask), DAN_I(window)}), start, stop, self, prefix); }
/* positions i32[N] -> f32 [N,R]: cosines and sines; start, stop i32[N] or 0: of the row's sequence, for scaling that looks at its length */
static inline dan_ref dan_rope_table(struct dan_builder *b, dan_ref pos, dan_ref start, dan_ref stop, const struct dan_rope *r)
{
    const union dan_attr a[] = {DAN_I(r->dim), DAN_I(r->kind), DAN_F(r->base), DAN_F(r->factor), DAN_F(r->low), DAN_F(r->high), DAN_F(r->original), DAN_F(r->by)};
    return DAN_EMIT(b, rope_table, 8, a, pos, start, stop);
}
static inline dan_ref dan_rope(struct dan_builder *b, dan_ref x, dan_ref table, int64_t head_dim, int backward) { return DAN_EMIT(b, rope, 2, ((const union dan_attr[]){DAN_I(head_dim), DAN_I(backward)}), x, table); }  /* x [N,H*D], table [N,R]: halves (x[i], x[i+R/2]) of each head are rotated, as in Hugging Face */
static inline dan_ref dan_kv_write(struct dan_builder *b, dan_ref cache, dan_ref rows, dan_ref slot) { return DAN_EMIT(b, kv_write, 1, &DAN_I(0), cache, rows, slot); }  /* cache [S,C], rows [N,C], slot i32[N] (-1: drop) -> new version */
static inline dan_ref dan_kv_write_heads(struct dan_builder *b, dan_ref cache, dan_ref rows, dan_ref slot, bool values) { return DAN_EMIT(b, kv_write, 1, &DAN_I(values), cache, rows, slot); }  /* cache [K,S,E] as in core/kv.h, rows [N,K*D] */

static inline dan_ref dan_rope_kv_write(struct dan_builder *b, dan_ref cache, dan_ref rows, dan_ref slot, dan_ref table, int64_t head_dim) { return DAN_EMIT(b, rope_kv_write, 1, &DAN_I(head_dim), cache, rows, slot, table); }  /* kv_write(cache, rope(rows, table), slot), for keys */

/* rows by index; ids out of [0, V) give zero rows and no gradient */
static inline dan_ref dan_embed(struct dan_builder *b, dan_ref table, dan_ref ids) { return DAN_EMIT(b, embed, 0, DAN_NO_ATTR, table, ids); }
static inline dan_ref dan_scatter_add(struct dan_builder *b, dan_ref base, dan_ref rows, dan_ref ids) { return DAN_EMIT(b, scatter_add, 0, DAN_NO_ATTR, base, rows, ids); }  /* base[ids[i]] += rows[i], in row order */

/* shape */
dan_ref dan_concat(struct dan_builder *b, const dan_ref *x, int n, int axis);
static inline dan_ref dan_slice(struct dan_builder *b, dan_ref x, int axis, int64_t start, int64_t stop) { return DAN_EMIT(b, slice, 3, ((const union dan_attr[]){DAN_I(axis), DAN_I(start), DAN_I(stop)}), x); }  /* a view */
static inline dan_ref dan_slice_grad(struct dan_builder *b, dan_ref dy, dan_ref like, int axis, int64_t start, int64_t stop) { return DAN_EMIT(b, slice_grad, 3, ((const union dan_attr[]){DAN_I(axis), DAN_I(start), DAN_I(stop)}), dy, like); }  /* zeros but for the slice */
dan_ref dan_split(struct dan_builder *b, dan_ref x, int axis, const int64_t *sizes, int n);      /* parts, as views; n <= 6; attrs: axis, n, sizes... */
static inline dan_ref dan_split_dim(struct dan_builder *b, dan_ref x, int axis, int64_t inner) { return DAN_EMIT(b, split_dim, 2, ((const union dan_attr[]){DAN_I(axis), DAN_I(inner)}), x); }
static inline dan_ref dan_merge_dims(struct dan_builder *b, dan_ref x, int axis) { return DAN_EMIT(b, merge_dims, 1, &DAN_I(axis), x); }  /* axis and axis+1 become one; x contiguous */
dan_ref dan_permute(struct dan_builder *b, dan_ref x, const int *order);                          /* materialises */

/* y = op(a) op(b) (+ bias) (act) (+ residual); a [.., M,K] (leading dims are rows; ta needs 2 dims), b [K,N] or, tb, [N,K].
 * With prec BF16 both operands are rounded to bf16 and products summed in f32. */
static inline dan_ref dan_matmul(struct dan_builder *b, dan_ref x, dan_ref w, int ta, int tb) { return DAN_EMIT(b, matmul, 4, ((const union dan_attr[]){DAN_I(ta), DAN_I(tb), DAN_I(0), DAN_I(0)}), x, w, 0, 0); }
static inline dan_ref dan_linear(struct dan_builder *b, dan_ref x, dan_ref w, dan_ref bias) { return DAN_EMIT(b, matmul, 4, ((const union dan_attr[]){DAN_I(0), DAN_I(1), DAN_I(0), DAN_I(0)}), x, w, bias, 0); }  /* w [N,K], as Hugging Face's Linear */
/* Parts x w^T + bias and act of it; after autodiff */
static inline dan_ref dan_linear_act(struct dan_builder *b, dan_ref x, dan_ref w, dan_ref bias, enum dan_prec prec, enum dan_act act)
{
    return DAN_EMIT(b, linear_act, 5, ((const union dan_attr[]){DAN_I(0), DAN_I(1), DAN_I(prec), DAN_I(act), DAN_I(0)}), x, w, bias, 0);
}

/* Pointwise ops in one pass over memory (pass fuse_chain).  The body is the graph of one row: input i is the last dimension
 * of in[i], outputs are the last dimensions of the chain's.  in[0] [.., C] tells the rows; see op/chain.c. */
dan_ref dan_chain(struct dan_builder *b, const struct dan_graph *body, const dan_ref *in, int n_in);

/* The loop (R6).  inputs: carry inits, xs (leading dim T), consts; body inputs in that order are one
 * step's carries, slices, consts; body outputs are new carries, then ys.  Parts: for each carry its
 * history [T+1,...] (row 0 = init, last row = final), then each ys [T,...].  reverse: from T-1 down;
 * history is then filled from the end (row T = init, row 0 = final). */
dan_ref dan_scan(struct dan_builder *b, const struct dan_graph *body, const dan_ref *in, int n_in, int n_carries, int n_xs, int n_ys, bool reverse);

#endif
