/* Blocks shared by model families.  Every function appends nodes and returns the result; names of
 * params follow the GGUF world ("attn_q.weight") below the builder's scope ("blk.3."). */
#ifndef DAN_NN_NN_H
#define DAN_NN_NN_H
#include "model/model.h"
#include "op/ops.h"

/* The inputs of a language model, as nodes; 0 where io does not ask for them.  range, turn: what attention and rotary
 * positions make of them; window, turn_local: the same in layers with a window. */
struct dan_lm_in { dan_ref tokens, pos, start, stop, range, window, turn, turn_local, slot, seed, reset, hold, lane; };
struct dan_lm_in dan_lm_inputs(struct dan_builder *b, const struct dan_io *io, bool time_major);
/* Adds turn, turn_local and window, as c says. */
void dan_nn_positions(struct dan_builder *b, const struct dan_lm_config *c, struct dan_lm_in *in);
/* Checks of what dan_nn_positions needs; fills the defaults of c->rope and c->rope_local. */
int dan_nn_complete_positions(struct dan_lm_config *c, struct dan_err *e);
/* Adds outputs "loss" [1], "row_loss" [N] and/or "logits" [R,V], or "loss" and "value" [N], as io says; h [N,C], head [V,C]. */
void dan_lm_outputs(struct dan_builder *b, const struct dan_io *io, dan_ref h, dan_ref head);
/* The same with logits cap tanh(x / cap); 0: as they are. */
void dan_lm_outputs_capped(struct dan_builder *b, const struct dan_io *io, dan_ref h, dan_ref head, double cap);

/* y = x W^T (+ b): NAME.weight [n_out, n_in], NAME.bias [n_out]; init std for the weight */
dan_ref dan_nn_linear(struct dan_builder *b, dan_ref x, const char *name, int64_t n_in, int64_t n_out, bool bias, double std);
dan_ref dan_nn_layer_norm(struct dan_builder *b, dan_ref x, const char *name, int64_t n, bool bias, double eps);
dan_ref dan_nn_rms_norm(struct dan_builder *b, dan_ref x, const char *name, int64_t n, double eps);
/* rms_norm of a decoder: by 1 + NAME.weight where c->norm_plus. */
dan_ref dan_nn_norm(struct dan_builder *b, const struct dan_lm_config *c, dan_ref x, const char *name, int64_t n);
/* Attention over packed rows with or without a KV cache: q [N,H*D], k, v [N,K*D] -> [N,H*D] */
dan_ref dan_nn_attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref q, dan_ref k, dan_ref v);
/* Products attn_q, attn_k, attn_v of h [N,C], norms of heads (c->qk_norm), rotation, attention, product attn_output: [N,C] */
dan_ref dan_nn_self_attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref h);
/* The same from q, k, v, up to the output product, for families whose weights are one. */
dan_ref dan_nn_attention_of(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref q, dan_ref k, dan_ref v);
/* ffn_down(act(ffn_gate h) * ffn_up h): [N,C] */
dan_ref dan_nn_gated_mlp(struct dan_builder *b, const struct dan_lm_config *c, dan_ref h, enum dan_act act);
/* One recurrent layer over time-major rows [T*lanes, C] -> [T*lanes, H]; torch's gate order and equations. */
enum dan_cell { DAN_CELL_LSTM, DAN_CELL_GRU };
dan_ref dan_nn_rnn(struct dan_builder *b, enum dan_cell cell, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x, int64_t n_in, int64_t hidden);
double dan_nn_residual_std(const struct dan_lm_config *c);       /* GPT-2: std / sqrt(2 L) for projections into the residual stream */

#endif
