/* Gemma 2 (Gemma Team 2024): Gemma with norms before and after both halves of a block, a window in every other layer, and scores
 * and logits that are capped by a tanh. */
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(8192, 1e-6, 10000), DAN_LM_INT("head_dim", head_dim, 256), DAN_LM_INT("query_pre_attn_scalar", query_scale, 256),
    DAN_LM_OPTIONAL("final_logit_softcapping", logit_cap, 30), DAN_LM_OPTIONAL("attn_logit_softcapping", score_cap, 50),
    DAN_LM_BOOL("attention_bias", qkv_bias, 0), DAN_LM_BOOL("attention_bias", out_bias, 0),
    DAN_LM_BOOL("tie_word_embeddings", tied, 1), DAN_LM_WINDOW(DAN_WINDOW_BUT_2ND), {0},
};
static const struct dan_field gguf[] = {
    DAN_DECODER_GGUF, DAN_LM_REAL("final_logit_softcapping", logit_cap, 0), DAN_LM_REAL("attn_logit_softcapping", score_cap, 0), {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    c->norm_plus = true;
    int rc = dan_decoder_complete(c, e);
    if (!rc && c->query_scale < 1) c->query_scale = c->layers == 46 ? c->hidden / c->heads : c->head_dim;   /* GGUF does not say; 46: the 27B model */
    return rc;
}

const struct dan_model dan_model_gemma2 = {
    .name = "gemma2", .hf_arch = "Gemma2ForCausalLM", .hf_model_type = "gemma2", .doc = "Gemma 2: norms around, capped scores and logits, windows in every other layer",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = dan_gemma_sandwich_names, .complete = complete,
    .build = dan_gemma_sandwich_build, .gguf_arch = "gemma2", .gguf = gguf, .gguf_norm_plus = true,
};
