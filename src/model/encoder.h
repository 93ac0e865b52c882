/* Encoders: BERT and its kin.  A sentence is seen as a whole, so there is no cache and nothing to generate: the
 * inputs are rows of whole sentences, one after the other, and the outputs are asked for by name.
 * Families: one file in src/model/ each; what is loaded: encoder.c. */
#ifndef DAN_MODEL_ENCODER_H
#define DAN_MODEL_ENCODER_H
#include "core/buffer.h"
#include "model/model.h"
#include "pass/pass.h"

struct dan_encoder_config {
    int64_t vocab, context, hidden, layers, heads, ffn;
    int64_t types, pad;                        /* rows of the token type table, 0: there is none; id of [PAD] */
    int64_t labels;                            /* classes of the classification head, as the weights have them */
    double  norm_eps;
    bool    tied;                              /* the masked-LM head reads the token table */
};

/* Inputs, i32: tokens[N] pos[N] type[N] start[N] stop[N] self[N], and select[R] when an output below reads single rows. */
struct dan_encoder_io {
    int64_t max_rows, max_select;              /* N, R */
    bool    hidden;                            /* output "hidden" [N,C]: the last layer */
    bool    pooled;                            /* output "pooled" [R,C]: the pooler at the selected rows (those of [CLS]) */
    bool    classes;                           /* output "classes" [R,K]: the classification head there */
    bool    words;                             /* output "words" [R,V]: the masked-LM head there */
    bool    tags;                              /* output "tags" [N,K]: the token classification head */
};

struct dan_encoder_family {
    const char *name, *doc;
    const char *hf_model_type, *prefix;        /* "bert", "bert.": tensor names have the prefix or not */
    const struct dan_field  *fields;           /* of struct dan_encoder_config */
    const struct dan_rename *names;            /* without the prefix */
    bool    pos_after_pad;                     /* positions count from pad + 1 (RoBERTa), else from 0 */
    bool    no_types;                          /* has no token types (DistilBERT) */
    bool    twice_between;                     /* two sentences have what ends a text twice between them (RoBERTa) */
    int   (*build)(struct dan_builder *b, const struct dan_encoder_config *c, const struct dan_encoder_io *io);
};
extern const struct dan_encoder_family *const dan_encoder_families[];       /* generated */
const struct dan_encoder_family *dan_encoder_family_find(const char *hf_model_type);   /* NULL when there is none */

struct dan_encoder {
    const struct dan_encoder_family *family;
    struct dan_encoder_config cfg;
    struct dan_store *store;                   /* by danlu's names */
    bool    pooler, classifier, masked_lm;     /* the heads that the file has */
    bool    tagger;                            /* its classifier is for tokens, not for texts */
};

/* Opens a Hugging Face model directory.  f32 weights stay views of the mapped file; with DAN_PREC_BF16 the weights
 * of products are kept as bf16, which is what such a product would round them to, in half the memory.
 * What the config asks for and danlu does not compute is refused with the key's name. */
int  dan_encoder_load(struct dan_encoder *enc, const char *dir, enum dan_prec prec, struct dan_err *e);
void dan_encoder_release(struct dan_encoder *enc);

/* The graph for io, with params typed as the store holds them, then the pipeline. */
int  dan_encoder_graph(const struct dan_encoder *enc, const struct dan_encoder_io *io, const char *pipeline,
                       const struct dan_pass_opts *o, struct dan_graph **out, struct dan_err *e);
/* Post-norm: the sum before a norm is read by nobody else, so it goes into the product before it (fuse_bias_act), ahead
 * of skip_norm, which would write it out. */
#define DAN_PIPELINE_ENCODE "fuse_horizontal,cse,fuse_bias_act,fuse_skip_norm,fuse_chain,place_concat,mixed,dce"

int64_t dan_encoder_max_tokens(const struct dan_encoder *enc);   /* of a sentence, [CLS] and [SEP] included */
static inline int64_t dan_encoder_first_pos(const struct dan_encoder *enc) { return enc->family->pos_after_pad ? enc->cfg.pad + 1 : 0; }

/* --- what the families share: bert.c */
#define DAN_BERT_STD 0.02                      /* of fresh weights */
#define DAN_RENAME_BOTH(ours, hf) {ours ".weight", hf ".weight", false}, {ours ".bias", hf ".bias", false}
#define DAN_BERT_BODY_NAMES                                                                                                        \
    {"token_embd.weight", "embeddings.word_embeddings.weight", false},                                                             \
    {"position_embd.weight", "embeddings.position_embeddings.weight", false},                                                      \
    {"token_types.weight", "embeddings.token_type_embeddings.weight", false},                                                      \
    DAN_RENAME_BOTH("token_embd_norm", "embeddings.LayerNorm"),                                                                    \
    DAN_RENAME_BOTH("blk.%d.attn_q", "encoder.layer.%d.attention.self.query"),                                                     \
    DAN_RENAME_BOTH("blk.%d.attn_k", "encoder.layer.%d.attention.self.key"),                                                       \
    DAN_RENAME_BOTH("blk.%d.attn_v", "encoder.layer.%d.attention.self.value"),                                                     \
    DAN_RENAME_BOTH("blk.%d.attn_output", "encoder.layer.%d.attention.output.dense"),                                              \
    DAN_RENAME_BOTH("blk.%d.attn_output_norm", "encoder.layer.%d.attention.output.LayerNorm"),                                     \
    DAN_RENAME_BOTH("blk.%d.ffn_up", "encoder.layer.%d.intermediate.dense"),                                                       \
    DAN_RENAME_BOTH("blk.%d.ffn_down", "encoder.layer.%d.output.dense"),                                                           \
    DAN_RENAME_BOTH("blk.%d.layer_output_norm", "encoder.layer.%d.output.LayerNorm"), DAN_RENAME_BOTH("pooler", "pooler.dense")
extern const struct dan_field dan_bert_fields[];
/* The last layer [N,C]; also output "hidden" when io asks for it. */
dan_ref dan_bert_body(struct dan_builder *b, const struct dan_encoder_config *c, const struct dan_encoder_io *io);
/* The products of dan_bert_body with names and their biases; x [N,n_in]. */
dan_ref dan_bert_linear(struct dan_builder *b, dan_ref x, const char *name, int64_t n_in, int64_t n_out);
/* The rows [R,C] that "select" names, 0 when io asks for no head. */
dan_ref dan_bert_select(struct dan_builder *b, const struct dan_encoder_io *io, dan_ref x);
dan_ref dan_bert_pooler(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref rows);   /* tanh(W x + b), [R,C] */
/* The masked-LM head: output "words" [R,V]. */
void dan_bert_words(struct dan_builder *b, const struct dan_encoder_config *c, dan_ref rows);

#endif
