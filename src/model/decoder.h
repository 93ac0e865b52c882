/* What the families after LLaMA share: config keys, names of tensors, and everything around their blocks. */
#ifndef DAN_MODEL_DECODER_H
#define DAN_MODEL_DECODER_H
#include "nn/nn.h"

#define DAN_LM_INT(key, field, dflt_) {key, 'i', offsetof(struct dan_lm_config, field), {.i = dflt_}}
#define DAN_LM_REAL(key, field, dflt_) {key, 'f', offsetof(struct dan_lm_config, field), {.f = dflt_}}
#define DAN_LM_OPTIONAL(key, field, dflt_) {key, 'o', offsetof(struct dan_lm_config, field), {.f = dflt_}}   /* null: 0 */
#define DAN_LM_BOOL(key, field, dflt_) {key, 'b', offsetof(struct dan_lm_config, field), {.i = dflt_}}
#define DAN_LM_ROPE(theta) {DAN_ROPE_KEYS, 'r', offsetof(struct dan_lm_config, rope), {.f = theta}}
#define DAN_LM_WINDOW(rule) {DAN_WINDOW_KEYS, 'w', offsetof(struct dan_lm_config, window), {.i = rule}}
/* Keys of all of them; a table goes on with what differs and ends with {0}. */
#define DAN_DECODER_FIELDS(context_, eps_, theta_)                                                                                 \
    DAN_LM_INT("vocab_size", vocab, INT64_MIN), DAN_LM_INT("max_position_embeddings", context, context_),                          \
    DAN_LM_INT("hidden_size", hidden, INT64_MIN), DAN_LM_INT("num_hidden_layers", layers, INT64_MIN),                              \
    DAN_LM_INT("num_attention_heads", heads, INT64_MIN), DAN_LM_INT("num_key_value_heads", kv_heads, 0),                           \
    DAN_LM_INT("intermediate_size", ffn, INT64_MIN), DAN_LM_INT("bos_token_id", bos, -1), DAN_LM_INT("eos_token_id", eos, -1),     \
    DAN_LM_INT("pad_token_id", pad, -1), DAN_LM_REAL("rms_norm_eps", norm_eps, eps_), DAN_LM_REAL("initializer_range", init_std, 0.02), DAN_LM_ROPE(theta_)

#define DAN_DECODER_BOTH(ours, hf) {"blk.%d." ours ".weight", "model.layers.%d." hf ".weight", false}, {"blk.%d." ours ".bias", "model.layers.%d." hf ".bias", false}
#define DAN_DECODER_EDGE_NAMES                                                                                                     \
    {"token_embd.weight", "model.embed_tokens.weight", false}, {"output_norm.weight", "model.norm.weight", false},                 \
    {"output.weight", "lm_head.weight", false}, {"blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", false}
#define DAN_DECODER_PRODUCT_NAMES                                                                                                  \
    DAN_DECODER_BOTH("attn_q", "self_attn.q_proj"), DAN_DECODER_BOTH("attn_k", "self_attn.k_proj"),                                \
    DAN_DECODER_BOTH("attn_v", "self_attn.v_proj"), DAN_DECODER_BOTH("attn_output", "self_attn.o_proj"),                           \
    DAN_DECODER_BOTH("ffn_gate", "mlp.gate_proj"), DAN_DECODER_BOTH("ffn_up", "mlp.up_proj"),                                      \
    DAN_DECODER_BOTH("ffn_down", "mlp.down_proj"),                                                                                 \
    {"blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight", false},                                               \
    {"blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight", false}
#define DAN_DECODER_FFN_NORM {"blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight", false}

/* Keys of GGUF files below the architecture's name. */
#define DAN_DECODER_GGUF                                                                                                           \
    DAN_LM_INT("context_length", context, INT64_MIN), DAN_LM_INT("embedding_length", hidden, INT64_MIN),                           \
    DAN_LM_INT("block_count", layers, INT64_MIN), DAN_LM_INT("feed_forward_length", ffn, INT64_MIN),                               \
    DAN_LM_INT("attention.head_count", heads, INT64_MIN), DAN_LM_INT("attention.head_count_kv", kv_heads, 0),                      \
    DAN_LM_INT("attention.key_length", head_dim, 0), DAN_LM_REAL("attention.layer_norm_rms_epsilon", norm_eps, 1e-5),              \
    DAN_LM_REAL("rope.freq_base", rope.base, 10000)

/* What the command line or a file left open, and checks: heads, positions, ffn (8/3 C, rounded up). */
int dan_decoder_complete(struct dan_lm_config *c, struct dan_err *e);

typedef dan_ref dan_block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x);
/* Embedding (times embed_scale), c->layers blocks, norm, head. */
int dan_decoder_build(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, dan_block *block, double embed_scale);

/* Shared blocks: llama.c */
extern const struct dan_rename dan_llama_names[];
extern const struct dan_field dan_llama_gguf[];
int dan_llama_build(struct dan_builder *b, const void *cfg, const struct dan_io *io);
/* Gemma 2 and 3, with norms before and after both halves of a block: gemma3.c */
extern const struct dan_rename dan_gemma_sandwich_names[];
int dan_gemma_sandwich_build(struct dan_builder *b, const void *cfg, const struct dan_io *io);

#endif
