/* Qwen3 (Yang et al. 2025): LLaMA with an RMSNorm of every query and key head before they turn. */
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(32768, 1e-6, 10000), DAN_LM_INT("head_dim", head_dim, 128), DAN_LM_BOOL("attention_bias", qkv_bias, 0), DAN_LM_BOOL("attention_bias", out_bias, 0),
    DAN_LM_BOOL("tie_word_embeddings", tied, 0), DAN_LM_WINDOW(DAN_WINDOW_IF_USED), {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    c->qk_norm = true;
    return dan_decoder_complete(c, e);
}

const struct dan_model dan_model_qwen3 = {
    .name = "qwen3", .hf_arch = "Qwen3ForCausalLM", .hf_model_type = "qwen3", .doc = "Qwen3: LLaMA with norms of query and key heads",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_llama_names, .complete = complete, .build = dan_llama_build,
    .gguf_arch = "qwen3", .gguf = dan_llama_gguf,
};
