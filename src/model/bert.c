/* BERT (Devlin et al. 2018): learned positions and token types, post-norm blocks, exact GELU; every row sees all
 * rows of its sentence and no others.  RoBERTa shares the body. */
#include <math.h>
#include "model/encoder.h"
#include "nn/nn.h"

#define F(k, f, v) {k, 'i', offsetof(struct dan_encoder_config, f), {.i = v}}
const struct dan_field dan_bert_fields[] = {
    F("vocab_size", vocab, INT64_MIN), F("max_position_embeddings", context, INT64_MIN), F("hidden_size", hidden, INT64_MIN),
    F("num_hidden_layers", layers, INT64_MIN), F("num_attention_heads", heads, INT64_MIN), F("intermediate_size", ffn, INT64_MIN),
    F("type_vocab_size", types, 2), F("pad_token_id", pad, 0),
    {"layer_norm_eps", 'f', offsetof(struct dan_encoder_config, norm_eps), {.f = 1e-12}},
    {"tie_word_embeddings", 'b', offsetof(struct dan_encoder_config, tied), {.i = 1}},
    {0},
};
#undef F

static const struct dan_rename names[] = {
    DAN_BERT_BODY_NAMES,
    DAN_RENAME_BOTH("mlm_dense", "cls.predictions.transform.dense"), DAN_RENAME_BOTH("mlm_norm", "cls.predictions.transform.LayerNorm"),
    {"mlm.weight", "cls.predictions.decoder.weight", false}, {"mlm.bias", "cls.predictions.bias", false},
    DAN_RENAME_BOTH("classifier", "classifier"), DAN_RENAME_BOTH("tagger", "classifier"), {0},
};

static dan_ref ints(struct dan_builder *b, const char *name, int64_t n) { return dan_input(b, name, &dan_dtype_i32, DAN_SHAPE(n), 1); }

static dan_ref table(struct dan_builder *b, const char *name, int64_t rows, int64_t cols)
{
    return dan_param(b, name, &dan_dtype_f32, DAN_SHAPE(rows, cols), "normal:0.02");
}

static dan_ref norm(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref x, const char *name)
{
    return dan_nn_layer_norm(b, x, name, c->hidden, true, c->norm_eps);
}

dan_ref dan_bert_linear(struct dan_builder *b, dan_ref x, const char *name, int64_t n_in, int64_t n_out)
{
    return dan_nn_linear(b, x, name, n_in, n_out, true, DAN_BERT_STD);
}

static dan_ref block(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref x, dan_ref range)
{
    int64_t n = c->hidden;
    dan_ref q = dan_bert_linear(b, x, "attn_q", n, n), k = dan_bert_linear(b, x, "attn_k", n, n), v = dan_bert_linear(b, x, "attn_v", n, n);
    double scale = 1 / sqrt((double)n / (double)c->heads);
    dan_ref h = dan_pick(b, dan_attend(b, q, k, v, range, c->heads, c->heads, scale), 0);      /* [N,C] */
    x = norm(b, c, dan_add(b, x, dan_bert_linear(b, h, "attn_output", n, n)), "attn_output_norm");
    h = dan_gelu(b, dan_bert_linear(b, x, "ffn_up", n, c->ffn));                                        /* [N,F] */
    return norm(b, c, dan_add(b, x, dan_bert_linear(b, h, "ffn_down", c->ffn, n)), "layer_output_norm");
}

dan_ref dan_bert_body(struct dan_builder *b, const struct dan_encoder_config *c, const struct dan_encoder_io *io)
{
    int64_t n = io->max_rows;
    DAN_HERE(b);
    dan_ref x = dan_embed(b, table(b, "token_embd.weight", c->vocab, c->hidden), ints(b, "tokens", n));
    x = dan_add(b, x, dan_embed(b, table(b, "position_embd.weight", c->context, c->hidden), ints(b, "pos", n)));
    if (c->types > 0) x = dan_add(b, x, dan_embed(b, table(b, "token_types.weight", c->types, c->hidden), ints(b, "type", n)));
    x = norm(b, c, x, "token_embd_norm");
    dan_ref start = ints(b, "start", n), stop = ints(b, "stop", n);
    dan_ref range = dan_attend_range(b, start, stop, ints(b, "self", n), 0, DAN_MASK_FULL, 0);
    for (int64_t i = 0; i < c->layers; i++) {
        dan_scope(b, "blk.%d.", (int)i);
        DAN_HERE(b);
        x = block(b, c, x, range);
    }
    dan_scope(b, "%s", "");
    DAN_HERE(b);
    if (io->hidden) dan_output(b, "hidden", x);
    return x;
}

dan_ref dan_bert_select(struct dan_builder *b, const struct dan_encoder_io *io, dan_ref x)
{
    return io->pooled || io->classes || io->words ? dan_embed(b, x, ints(b, "select", io->max_select)) : 0;
}

dan_ref dan_bert_pooler(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref rows)
{
    return dan_tanh(b, dan_bert_linear(b, rows, "pooler", c->hidden, c->hidden));
}

void dan_bert_words(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref rows)
{
    dan_ref h = norm(b, c, dan_gelu(b, dan_bert_linear(b, rows, "mlm_dense", c->hidden, c->hidden)), "mlm_norm");
    dan_ref w = c->tied ? dan_leaf(b->g, "token_embd.weight") : table(b, "mlm.weight", c->vocab, c->hidden);
    dan_output(b, "words", dan_linear(b, h, w, dan_param(b, "mlm.bias", &dan_dtype_f32, DAN_SHAPE(c->vocab), "zeros")));
}

static int build(struct dan_builder *b, const struct dan_encoder_config *c, const struct dan_encoder_io *io)
{
    dan_ref x = dan_bert_body(b, c, io), rows = dan_bert_select(b, io, x);
    dan_ref pooled = io->pooled || io->classes ? dan_bert_pooler(b, c, rows) : 0;
    if (io->pooled) dan_output(b, "pooled", pooled);
    if (io->classes) dan_output(b, "classes", dan_bert_linear(b, pooled, "classifier", c->hidden, c->labels));
    if (io->words) dan_bert_words(b, c, rows);
    if (io->tags) dan_output(b, "tags", dan_bert_linear(b, x, "tagger", c->hidden, c->labels));
    return b->err.code;
}

const struct dan_encoder_family dan_encoder_family_bert = {
    .name = "bert", .doc = "BERT: learned positions, post-norm, sees both ways", .hf_model_type = "bert", .prefix = "bert.",
    .fields = dan_bert_fields, .names = names, .build = build,
};
