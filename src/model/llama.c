/* LLaMA (Touvron et al. 2023): rotary positions, pre-norm with RMSNorm, SwiGLU, grouped-query attention.  Llama 2 and 3,
 * SmolLM, TinyLlama and many others are this with other numbers. */
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(2048, 1e-6, 10000), DAN_LM_INT("head_dim", head_dim, 0), DAN_LM_BOOL("attention_bias", qkv_bias, 0), DAN_LM_BOOL("attention_bias", out_bias, 0),
    DAN_LM_BOOL("mlp_bias", mlp_bias, 0), DAN_LM_BOOL("tie_word_embeddings", tied, 0), {0},
};
const struct dan_field dan_llama_gguf[] = {DAN_DECODER_GGUF, {0}};
const struct dan_rename dan_llama_names[] = {DAN_DECODER_EDGE_NAMES, DAN_DECODER_FFN_NORM, DAN_DECODER_PRODUCT_NAMES, {0}};

static int complete(void *cfg, struct dan_err *e) { return dan_decoder_complete(cfg, e); }

static dan_ref block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x)
{
    dan_ref h = dan_nn_self_attention(b, c, io, in, dan_nn_norm(b, c, x, "attn_norm", c->hidden));
    x = dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
    h = dan_nn_gated_mlp(b, c, dan_nn_norm(b, c, x, "ffn_norm", c->hidden), DAN_ACT_SILU);
    return dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
}

int dan_llama_build(struct dan_builder *b, const void *cfg, const struct dan_io *io) { return dan_decoder_build(b, cfg, io, block, 1); }

const struct dan_model dan_model_llama = {
    .name = "llama", .hf_arch = "LlamaForCausalLM", .hf_model_type = "llama", .doc = "LLaMA: rotary positions, RMSNorm, SwiGLU, grouped-query attention",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_llama_names, .complete = complete, .build = dan_llama_build,
    .gguf_arch = "llama", .gguf = dan_llama_gguf, .gguf_pairs = true,
};
