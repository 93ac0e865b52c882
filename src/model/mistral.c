/* Mistral (Jiang et al. 2023): LLaMA whose layers may see only the last tokens.  In GGUF it is "llama". */
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(131072, 1e-6, 10000), DAN_LM_INT("head_dim", head_dim, 0), DAN_LM_BOOL("tie_word_embeddings", tied, 0),
    DAN_LM_WINDOW(DAN_WINDOW_ALL_4096), {0},
};

static int complete(void *cfg, struct dan_err *e) { return dan_decoder_complete(cfg, e); }

const struct dan_model dan_model_mistral = {
    .name = "mistral", .hf_arch = "MistralForCausalLM", .hf_model_type = "mistral", .doc = "Mistral: LLaMA with a sliding window",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_llama_names, .complete = complete, .build = dan_llama_build,
    .gguf_arch = "llama", .gguf = dan_llama_gguf, .gguf_pairs = true,
};
