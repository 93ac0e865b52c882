/* DistilBERT (Sanh et al. 2019): BERT with half of the layers, no token types and no pooler; its heads have names of their own. */
#include "model/encoder.h"
#include "op/ops.h"

#define F(k, f, v) {k, 'i', offsetof(struct dan_encoder_config, f), {.i = v}}
static const struct dan_field fields[] = {
    F("vocab_size", vocab, INT64_MIN), F("max_position_embeddings", context, INT64_MIN), F("dim", hidden, INT64_MIN),
    F("n_layers", layers, INT64_MIN), F("n_heads", heads, INT64_MIN), F("hidden_dim", ffn, INT64_MIN), F("pad_token_id", pad, 0),
    {"layer_norm_eps", 'f', offsetof(struct dan_encoder_config, norm_eps), {.f = 1e-12}},
    {"tie_word_embeddings|tie_weights_", 'b', offsetof(struct dan_encoder_config, tied), {.i = 1}},
    {0},
};
#undef F

static const struct dan_rename names[] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", false},
    {"position_embd.weight", "embeddings.position_embeddings.weight", false},
    DAN_RENAME_BOTH("token_embd_norm", "embeddings.LayerNorm"),
    DAN_RENAME_BOTH("blk.%d.attn_q", "transformer.layer.%d.attention.q_lin"), DAN_RENAME_BOTH("blk.%d.attn_k", "transformer.layer.%d.attention.k_lin"),
    DAN_RENAME_BOTH("blk.%d.attn_v", "transformer.layer.%d.attention.v_lin"),
    DAN_RENAME_BOTH("blk.%d.attn_output", "transformer.layer.%d.attention.out_lin"),
    DAN_RENAME_BOTH("blk.%d.attn_output_norm", "transformer.layer.%d.sa_layer_norm"),
    DAN_RENAME_BOTH("blk.%d.ffn_up", "transformer.layer.%d.ffn.lin1"), DAN_RENAME_BOTH("blk.%d.ffn_down", "transformer.layer.%d.ffn.lin2"),
    DAN_RENAME_BOTH("blk.%d.layer_output_norm", "transformer.layer.%d.output_layer_norm"),
    DAN_RENAME_BOTH("mlm_dense", "vocab_transform"), DAN_RENAME_BOTH("mlm_norm", "vocab_layer_norm"), DAN_RENAME_BOTH("mlm", "vocab_projector"),
    DAN_RENAME_BOTH("class_dense", "pre_classifier"), DAN_RENAME_BOTH("classifier", "classifier"), DAN_RENAME_BOTH("tagger", "classifier"), {0},
};

static dan_ref classes(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref rows)
{
    dan_ref h = dan_relu(b, dan_bert_linear(b, rows, "class_dense", c->hidden, c->hidden));
    return dan_bert_linear(b, h, "classifier", c->hidden, c->labels);
}

static int build(struct dan_builder *b, const struct dan_encoder_config *c, const struct dan_encoder_io *io)
{
    dan_ref x = dan_bert_body(b, c, io), rows = dan_bert_select(b, io, x);
    if (io->pooled) dan_poison(b, DAN_EUNSUPPORTED, "models of this family have no pooler");
    if (io->classes) dan_output(b, "classes", classes(b, c, rows));
    if (io->words) dan_bert_words(b, c, rows);
    if (io->tags) dan_output(b, "tags", dan_bert_linear(b, x, "tagger", c->hidden, c->labels));
    return b->err.code;
}

const struct dan_encoder_family dan_encoder_family_distilbert = {
    .name = "distilbert", .doc = "DistilBERT: BERT with half of the layers", .hf_model_type = "distilbert", .prefix = "distilbert.",
    .fields = fields, .names = names, .no_types = true, .build = build,
};
