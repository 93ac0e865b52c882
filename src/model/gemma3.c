/* Gemma 3, text (Gemma Team 2025): Gemma with norms of query and key heads, norms before and after both halves of a block, and
 * five layers with a window and frequencies of their own for each one without. */
#include <math.h>
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(131072, 1e-6, 1000000), {"rope_local_base_freq", 'l', offsetof(struct dan_lm_config, rope_local), {.f = 10000}},
    DAN_LM_INT("head_dim", head_dim, 256), DAN_LM_INT("query_pre_attn_scalar", query_scale, 256),
    DAN_LM_OPTIONAL("final_logit_softcapping", logit_cap, 0), DAN_LM_OPTIONAL("attn_logit_softcapping", score_cap, 0),
    DAN_LM_BOOL("attention_bias", qkv_bias, 0), DAN_LM_BOOL("attention_bias", out_bias, 0),
    DAN_LM_BOOL("tie_word_embeddings", tied, 1), DAN_LM_WINDOW(DAN_WINDOW_BUT_6TH), {0},
};
static const struct dan_field gguf[] = {DAN_DECODER_GGUF, DAN_LM_REAL("final_logit_softcapping", logit_cap, 0), {0}};

const struct dan_rename dan_gemma_sandwich_names[] = {
    DAN_DECODER_EDGE_NAMES, DAN_DECODER_PRODUCT_NAMES,
    {"blk.%d.post_attention_norm.weight", "model.layers.%d.post_attention_layernorm.weight", false},
    {"blk.%d.ffn_norm.weight", "model.layers.%d.pre_feedforward_layernorm.weight", false},
    {"blk.%d.post_ffw_norm.weight", "model.layers.%d.post_feedforward_layernorm.weight", false}, {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    c->norm_plus = c->qk_norm = true;
    if (!(c->rope.base > 0)) c->rope.base = 1000000;
    if (!(c->rope_local.base > 0)) c->rope_local.base = 10000;
    int rc = dan_decoder_complete(c, e);
    if (!rc && c->query_scale < 1) c->query_scale = c->layers == 62 ? c->hidden / c->heads : c->head_dim;   /* GGUF does not say; 62: the 27B model */
    return rc;
}

static dan_ref block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x)
{
    dan_ref h = dan_nn_self_attention(b, c, io, in, dan_nn_norm(b, c, x, "attn_norm", c->hidden));
    h = dan_nn_norm(b, c, h, "post_attention_norm", c->hidden);
    x = dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
    h = dan_nn_gated_mlp(b, c, dan_nn_norm(b, c, x, "ffn_norm", c->hidden), DAN_ACT_GELU_TANH);
    h = dan_nn_norm(b, c, h, "post_ffw_norm", c->hidden);
    return dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
}

int dan_gemma_sandwich_build(struct dan_builder *b, const void *cfg, const struct dan_io *io)
{
    return dan_decoder_build(b, cfg, io, block, sqrt((double)((const struct dan_lm_config *)cfg)->hidden));
}

const struct dan_model dan_model_gemma3 = {
    .name = "gemma3", .hf_arch = "Gemma3ForCausalLM", .hf_model_type = "gemma3_text", .doc = "Gemma 3, text: windows in five of six layers, norms everywhere",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_gemma_sandwich_names, .complete = complete, .build = dan_gemma_sandwich_build,
    .gguf_arch = "gemma3", .gguf = gguf, .gguf_norm_plus = true,
};
