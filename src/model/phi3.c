/* Phi-3 (Abdin et al. 2024): LLaMA whose query, key, value weights are one matrix, and gate and up another. */
#include "model/decoder.h"

static const struct dan_field fields[] = {
    DAN_DECODER_FIELDS(4096, 1e-5, 10000), DAN_LM_BOOL("tie_word_embeddings", tied, 0), DAN_LM_WINDOW(DAN_WINDOW_ALL), {0},
};
static const struct dan_field gguf[] = {DAN_DECODER_GGUF, {0}};

static const struct dan_rename names[] = {
    DAN_DECODER_EDGE_NAMES, DAN_DECODER_FFN_NORM,
    {"blk.%d.attn_qkv.weight", "model.layers.%d.self_attn.qkv_proj.weight", false},
    {"blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", false},
    {"blk.%d.ffn_up.weight", "model.layers.%d.mlp.gate_up_proj.weight", false},
    {"blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", false}, {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    if (c->rope.kind == DAN_ROPE_YARN || c->rope.kind == DAN_ROPE_YARN_SMOOTH)
        return dan_fail(e, DAN_EUNSUPPORTED, "unsupported 'rope_scaling' (yarn): in models of this family it means longrope, which is not "
                        "supported; supported: default, linear, dynamic, llama3");
    return dan_decoder_complete(c, e);
}

static dan_ref attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref h)
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    dan_ref qkv = dan_split(b, dan_nn_linear(b, h, "attn_qkv", c->hidden, q + 2 * kv, false, c->init_std), 1, (const int64_t[]){q, kv, kv}, 3);
    return dan_nn_attention_of(b, c, io, in, dan_pick(b, qkv, 0), dan_pick(b, qkv, 1), dan_pick(b, qkv, 2));
}

static dan_ref mlp(struct dan_builder *b, const struct dan_lm_config *c, dan_ref h)
{
    dan_ref both = dan_split(b, dan_nn_linear(b, h, "ffn_up", c->hidden, 2 * c->ffn, false, c->init_std), 1, (const int64_t[]){c->ffn, c->ffn}, 2);
    h = dan_mul(b, dan_silu(b, dan_pick(b, both, 0)), dan_pick(b, both, 1));                                  /* [N,F] */
    return dan_nn_linear(b, h, "ffn_down", c->ffn, c->hidden, false, dan_nn_residual_std(c));
}

static dan_ref block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x)
{
    dan_ref h = attention(b, c, io, in, dan_nn_norm(b, c, x, "attn_norm", c->hidden));
    x = dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
    h = mlp(b, c, dan_nn_norm(b, c, x, "ffn_norm", c->hidden));
    return dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
}

static int build(struct dan_builder *b, const void *cfg, const struct dan_io *io) { return dan_decoder_build(b, cfg, io, block, 1); }

const struct dan_model dan_model_phi3 = {
    .name = "phi3", .hf_arch = "Phi3ForCausalLM", .hf_model_type = "phi3", .doc = "Phi-3: LLaMA with joined weights",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = names, .complete = complete, .build = build,
    .gguf_arch = "phi3", .gguf = gguf,
};
