/* GPT-2 (Radford et al. 2019): learned positions, pre-norm with LayerNorm, GELU (tanh form), head
 * tied to the token embedding. */
#include <stdio.h>
#include "nn/nn.h"

#define F(k, f, v) {k, 'i', offsetof(struct dan_lm_config, f), {.i = v}}
static const struct dan_field fields[] = {
    F("vocab_size", vocab, INT64_MIN), F("n_positions|n_ctx", context, INT64_MIN), F("n_embd", hidden, INT64_MIN),
    F("n_layer", layers, INT64_MIN), F("n_head", heads, INT64_MIN), F("n_inner", ffn, 0),
    F("bos_token_id", bos, -1), F("eos_token_id", eos, -1), F("pad_token_id", pad, -1),
    {"layer_norm_epsilon", 'f', offsetof(struct dan_lm_config, norm_eps), {.f = 1e-5}},
    {"initializer_range", 'f', offsetof(struct dan_lm_config, init_std), {.f = 0.02}},
    {"tie_word_embeddings", 'b', offsetof(struct dan_lm_config, tied), {.i = 1}},
    {"danlu_bias", 'b', offsetof(struct dan_lm_config, bias), {.i = 1}},
    {0},
};
static const struct dan_field gguf[] = {
    F("context_length", context, INT64_MIN), F("embedding_length", hidden, INT64_MIN), F("block_count", layers, INT64_MIN),
    F("feed_forward_length", ffn, INT64_MIN), F("attention.head_count", heads, INT64_MIN),
    {"attention.layer_norm_epsilon", 'f', offsetof(struct dan_lm_config, norm_eps), {.f = 1e-5}},
    {0},
};
#undef F

static const struct dan_rename names[] = {
    {"token_embd.weight", "transformer.wte.weight", false}, {"position_embd.weight", "transformer.wpe.weight", false},
    {"blk.%d.attn_norm.weight", "transformer.h.%d.ln_1.weight", false}, {"blk.%d.attn_norm.bias", "transformer.h.%d.ln_1.bias", false},
    {"blk.%d.attn_qkv.weight", "transformer.h.%d.attn.c_attn.weight", true}, {"blk.%d.attn_qkv.bias", "transformer.h.%d.attn.c_attn.bias", false},
    {"blk.%d.attn_output.weight", "transformer.h.%d.attn.c_proj.weight", true}, {"blk.%d.attn_output.bias", "transformer.h.%d.attn.c_proj.bias", false},
    {"blk.%d.ffn_norm.weight", "transformer.h.%d.ln_2.weight", false}, {"blk.%d.ffn_norm.bias", "transformer.h.%d.ln_2.bias", false},
    {"blk.%d.ffn_up.weight", "transformer.h.%d.mlp.c_fc.weight", true}, {"blk.%d.ffn_up.bias", "transformer.h.%d.mlp.c_fc.bias", false},
    {"blk.%d.ffn_down.weight", "transformer.h.%d.mlp.c_proj.weight", true}, {"blk.%d.ffn_down.bias", "transformer.h.%d.mlp.c_proj.bias", false},
    {"output_norm.weight", "transformer.ln_f.weight", false}, {"output_norm.bias", "transformer.ln_f.bias", false},
    {"output.weight", "lm_head.weight", false}, {0},
};

static int complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    int rc = dan_lm_complete(c, e);
    if (!rc && c->kv_heads != c->heads) rc = dan_fail(e, DAN_EINVAL, "gpt has as many key/value heads as heads; leave out --kv-heads or use --model llama");
    if (!rc && c->head_dim * c->heads != c->hidden) rc = dan_fail(e, DAN_EINVAL, "gpt wants heads x head dim = hidden size");
    if (!c->ffn) c->ffn = 4 * c->hidden;
    if (!(c->norm_eps > 0)) c->norm_eps = 1e-5;
    return rc;
}

static dan_ref block(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x)
{
    int64_t sizes[] = {c->hidden, c->hidden, c->hidden};
    double out_std = dan_nn_residual_std(c);
    dan_ref h = dan_nn_layer_norm(b, x, "attn_norm", c->hidden, c->bias, c->norm_eps);
    dan_ref qkv = dan_split(b, dan_nn_linear(b, h, "attn_qkv", c->hidden, 3 * c->hidden, c->bias, c->init_std), 1, sizes, 3);
    h = dan_nn_attention(b, c, io, in, dan_pick(b, qkv, 0), dan_pick(b, qkv, 1), dan_pick(b, qkv, 2));
    h = dan_nn_linear(b, h, "attn_output", c->hidden, c->hidden, c->bias, out_std);
    x = dan_add(b, x, dan_dropout(b, h, in->seed, io->dropout));
    h = dan_nn_layer_norm(b, x, "ffn_norm", c->hidden, c->bias, c->norm_eps);
    h = dan_gelu_tanh(b, dan_nn_linear(b, h, "ffn_up", c->hidden, c->ffn, c->bias, c->init_std));
    h = dan_nn_linear(b, h, "ffn_down", c->ffn, c->hidden, c->bias, out_std);
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
    dan_ref wpe = dan_param(b, "position_embd.weight", &dan_dtype_f32, DAN_SHAPE(c->context, c->hidden), init);
    dan_ref x = dan_add(b, dan_embed(b, table, in.tokens), dan_embed(b, wpe, in.pos));
    x = dan_dropout(b, x, in.seed, io->dropout);
    for (int64_t i = 0; i < c->layers; i++) {
        dan_scope(b, "blk.%d.", (int)i);
        DAN_HERE(b);
        x = block(b, c, io, &in, x);
    }
    dan_scope(b, "%s", "");
    DAN_HERE(b);
    x = dan_nn_layer_norm(b, x, "output_norm", c->hidden, c->bias, c->norm_eps);
    dan_ref head = c->tied ? table : dan_param(b, "output.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), init);
    dan_lm_outputs(b, io, x, head);
    return b->err.code;
}

const struct dan_model dan_model_gpt = {
    .name = "gpt", .hf_arch = "GPT2LMHeadModel", .hf_model_type = "gpt2", .doc = "GPT-2: learned positions, LayerNorm, GELU, tied head",
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = fields, .names = names, .complete = complete, .build = build,
    .gguf_arch = "gpt2", .gguf = gguf,
};
