/* LLaMA (Touvron et al. 2023): rotary positions, pre-norm with RMSNorm, SwiGLU, grouped-query attention. */
#include <stdio.h>
#include "nn/nn.h"

#define F(k, f, v) {k, 'i', offsetof(struct dan_lm_config, f), {.i = v}}
static const struct dan_field fields[] = {
    F("vocab_size", vocab, INT64_MIN), F("max_position_embeddings", context, 2048), F("hidden_size", hidden, INT64_MIN),
    F("num_hidden_layers", layers, INT64_MIN), F("num_attention_heads", heads, INT64_MIN), F("num_key_value_heads", kv_heads, 0),
    F("head_dim", head_dim, 0), F("intermediate_size", ffn, INT64_MIN), F("bos_token_id", bos, -1), F("eos_token_id", eos, -1),
    {"rms_norm_eps", 'f', offsetof(struct dan_lm_config, norm_eps), {.f = 1e-6}},
    {"rope_theta", 'f', offsetof(struct dan_lm_config, rope_base), {.f = 10000}},
    {"initializer_range", 'f', offsetof(struct dan_lm_config, init_std), {.f = 0.02}},
    {"tie_word_embeddings", 'b', offsetof(struct dan_lm_config, tied), {.i = 0}},
    {0},
};
#undef F

static const struct dan_rename names[] = {
    {"token_embd.weight", "model.embed_tokens.weight", false},
    {"blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", false},
    {"blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", false},
    {"blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", false},
    {"blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", false},
    {"blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", false},
    {"blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight", false},
    {"blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight", false},
    {"blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight", false},
    {"blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", false},
    {"output_norm.weight", "model.norm.weight", false}, {"output.weight", "lm_head.weight", false}, {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    int rc = dan_lm_complete(c, e);
    if (!rc && c->head_dim % 2) rc = dan_fail(e, DAN_EINVAL, "rotary positions need an even head dim, got %lld; choose --heads so that hidden / heads is even", (long long)c->head_dim);
    if (!c->ffn) c->ffn = (c->hidden * 8 / 3 + 31) / 32 * 32;                /* LLaMA: 8/3 C, rounded up */
    if (!(c->norm_eps > 0)) c->norm_eps = 1e-5;
    if (!(c->rope_base > 0)) c->rope_base = 10000;
    return rc;
}

static dan_ref block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x)
{
    int64_t q_width = c->heads * c->head_dim, kv_width = c->kv_heads * c->head_dim;
    double out_std = dan_nn_residual_std(c);
    dan_ref h = dan_nn_rms_norm(b, x, "attn_norm", c->hidden, c->norm_eps);
    dan_ref q = dan_nn_linear(b, h, "attn_q", c->hidden, q_width, false, c->init_std);
    dan_ref k = dan_nn_linear(b, h, "attn_k", c->hidden, kv_width, false, c->init_std);
    dan_ref v = dan_nn_linear(b, h, "attn_v", c->hidden, kv_width, false, c->init_std);
    q = dan_rope(b, q, in->pos, c->head_dim, c->rope_base, 0);
    k = dan_rope(b, k, in->pos, c->head_dim, c->rope_base, 0);
    h = dan_nn_linear(b, dan_nn_attention(b, c, io, in, q, k, v), "attn_output", q_width, c->hidden, false, out_std);
    x = dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
    h = dan_nn_rms_norm(b, x, "ffn_norm", c->hidden, c->norm_eps);
    dan_ref gate = dan_nn_linear(b, h, "ffn_gate", c->hidden, c->ffn, false, c->init_std);
    dan_ref up = dan_nn_linear(b, h, "ffn_up", c->hidden, c->ffn, false, c->init_std);
    h = dan_nn_linear(b, dan_mul(b, dan_silu(b, gate), up), "ffn_down", c->ffn, c->hidden, false, out_std);
    return dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
}

static int build(struct dan_builder *b, const void *cfg, const struct dan_io *io)
{
    const struct dan_lm_config *c = cfg;
    struct dan_lm_in in = dan_lm_inputs(b, io, false);
    char init[32];
    snprintf(init, sizeof init, "normal:%.9g", c->init_std);
    DAN_HERE(b);
    dan_ref table = dan_param(b, "token_embd.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), init);
    dan_ref x = dan_dropout(b, dan_embed(b, table, in.tokens), in.seed, io->dropout);
    for (int64_t i = 0; i < c->layers; i++) {
        dan_scope(b, "blk.%d.", (int)i);
        DAN_HERE(b);
        x = block(b, c, io, &in, x);
    }
    dan_scope(b, "%s", "");
    DAN_HERE(b);
    x = dan_nn_rms_norm(b, x, "output_norm", c->hidden, c->norm_eps);
    dan_ref head = c->tied ? table : dan_param(b, "output.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), init);
    dan_lm_outputs(b, io, x, head);
    return b->err.code;
}

const struct dan_model dan_model_llama = {
    .name = "llama", .hf_arch = "LlamaForCausalLM", .hf_model_type = "llama", .doc = "LLaMA: rotary positions, RMSNorm, SwiGLU, grouped-query attention",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = names, .complete = complete, .build = build,
};
