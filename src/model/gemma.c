/* Gemma (Gemma Team 2024): LLaMA with embeddings times sqrt(C), norms by 1 + weight, GELU (tanh form) for the gate, a tied head. */
#include <math.h>
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(8192, 1e-6, 10000), DAN_LM_INT("head_dim", head_dim, 256), DAN_LM_BOOL("attention_bias", qkv_bias, 0), DAN_LM_BOOL("attention_bias", out_bias, 0),
    DAN_LM_BOOL("tie_word_embeddings", tied, 1), {0},
};
static const struct dan_field gguf[] = {DAN_DECODER_GGUF, {0}};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    c->norm_plus = true;
    return dan_decoder_complete(c, e);
}

static dan_ref block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x)
{
    dan_ref h = dan_nn_self_attention(b, c, io, in, dan_nn_norm(b, c, x, "attn_norm", c->hidden));
    x = dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
    h = dan_nn_gated_mlp(b, c, dan_nn_norm(b, c, x, "ffn_norm", c->hidden), DAN_ACT_GELU_TANH);
    return dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
}

static int build(struct dan_builder *b, const void *cfg, const struct dan_io *io)
{
    return dan_decoder_build(b, cfg, io, block, sqrt((double)((const struct dan_lm_config *)cfg)->hidden));
}

const struct dan_model dan_model_gemma = {
    .name = "gemma", .hf_arch = "GemmaForCausalLM", .hf_model_type = "gemma", .doc = "Gemma: scaled embeddings, norms by 1 + weight, GeGLU",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_llama_names, .complete = complete, .build = build,
    .gguf_arch = "gemma", .gguf = gguf, .gguf_norm_plus = true,
};
