/* RoBERTa (Liu et al. 2019): BERT's body; positions begin behind that of the padding token, and the heads differ.
 * XLM-R (Conneau et al. 2020) is the same. */
#include "model/encoder.h"
#include "op/ops.h"

static const struct dan_rename names[] = {
    DAN_BERT_BODY_NAMES,
    DAN_RENAME_BOTH("mlm_dense", "lm_head.dense"), DAN_RENAME_BOTH("mlm_norm", "lm_head.layer_norm"),
    {"mlm.weight", "lm_head.decoder.weight", false}, {"mlm.bias", "lm_head.bias", false},
    DAN_RENAME_BOTH("class_dense", "classifier.dense"), DAN_RENAME_BOTH("classifier", "classifier.out_proj"),
    DAN_RENAME_BOTH("tagger", "classifier"), {0},
};

/* Its own dense layer instead of the pooler. */
static dan_ref classes(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref rows)
{
    dan_ref h = dan_tanh(b, dan_bert_linear(b, rows, "class_dense", c->hidden, c->hidden));
    return dan_bert_linear(b, h, "classifier", c->hidden, c->labels);
}

static int build(struct dan_builder *b, const struct dan_encoder_config *c, const struct dan_encoder_io *io)
{
    dan_ref x = dan_bert_body(b, c, io), rows = dan_bert_select(b, io, x);
    if (io->pooled) dan_output(b, "pooled", dan_bert_pooler(b, c, rows));
    if (io->classes) dan_output(b, "classes", classes(b, c, rows));
    if (io->words) dan_bert_words(b, c, rows);
    if (io->tags) dan_output(b, "tags", dan_bert_linear(b, x, "tagger", c->hidden, c->labels));
    return b->err.code;
}

const struct dan_encoder_family dan_encoder_family_roberta = {
    .name = "roberta", .doc = "RoBERTa: BERT with positions from pad + 1 and its own heads", .hf_model_type = "roberta",
    .prefix = "roberta.", .fields = dan_bert_fields, .names = names, .pos_after_pad = true, .twice_between = true, .build = build,
};

const struct dan_encoder_family dan_encoder_family_xlm_roberta = {
    .name = "xlm-roberta", .doc = "XLM-R: RoBERTa with a vocabulary of a hundred languages", .hf_model_type = "xlm-roberta",
    .prefix = "roberta.", .fields = dan_bert_fields, .names = names, .pos_after_pad = true, .twice_between = true, .build = build,
};
