/* Qwen2 and 2.5 (Yang et al. 2024): LLaMA with biases on the query, key and value products, and windows in upper layers if asked for. */
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(32768, 1e-6, 10000), DAN_LM_INT("head_dim", head_dim, 0), DAN_LM_BOOL("tie_word_embeddings", tied, 0),
    DAN_LM_WINDOW(DAN_WINDOW_IF_USED), {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    c->qkv_bias = true;
    return dan_decoder_complete(c, e);
}

const struct dan_model dan_model_qwen2 = {
    .name = "qwen2", .hf_arch = "Qwen2ForCausalLM", .hf_model_type = "qwen2", .doc = "Qwen2 and 2.5: LLaMA with biases on q, k, v",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_llama_names, .complete = complete, .build = dan_llama_build,
    .gguf_arch = "qwen2", .gguf = dan_llama_gguf,
};
