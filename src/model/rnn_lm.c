/* Recurrent language model: embedding, L recurrent layers with residual-free stacking (as in torch's
 * word_language_model), head tied to the embedding when asked. */
#include "model/rnn_lm.h"

#define F(k, f, v) {k, 'i', offsetof(struct dan_lm_config, f), {.i = v}}
const struct dan_field dan_rnn_fields[] = {
    F("vocab_size", vocab, INT64_MIN), F("max_position_embeddings", context, 2048), F("hidden_size", hidden, INT64_MIN),
    F("num_hidden_layers", layers, INT64_MIN), F("bos_token_id", bos, -1), F("eos_token_id", eos, -1),
    {"initializer_range", 'f', offsetof(struct dan_lm_config, init_std), {.f = 0.02}},
    {"tie_word_embeddings", 'b', offsetof(struct dan_lm_config, tied), {.i = 1}},
    {0},
};
#undef F

const struct dan_rename dan_rnn_names[] = {
    {"token_embd.weight", "embed_tokens.weight", false},
    {"blk.%d.rnn.weight_ih", "layers.%d.weight_ih", false}, {"blk.%d.rnn.weight_hh", "layers.%d.weight_hh", false},
    {"blk.%d.rnn.bias_ih", "layers.%d.bias_ih", false}, {"blk.%d.rnn.bias_hh", "layers.%d.bias_hh", false},
    {"output.weight", "lm_head.weight", false}, {0},
};

int dan_rnn_complete(void *cfg, struct dan_err *e)
{
    struct dan_lm_config *c = cfg;
    c->heads = c->kv_heads = 1;                /* no attention; keeps the shared checks quiet */
    c->head_dim = c->hidden;
    return dan_lm_complete(c, e);
}

int dan_rnn_build(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, enum dan_cell cell)
{
    struct dan_lm_in in = dan_lm_inputs(b, io, true);
    DAN_HERE(b);
    dan_ref table = dan_param(b, "token_embd.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), c->tied ? "normal:0.05" : "normal:1");
    dan_ref x = dan_embed(b, table, in.tokens);
    for (int64_t i = 0; i < c->layers; i++) {
        dan_scope(b, "blk.%d.", (int)i);
        DAN_HERE(b);
        x = dan_nn_rnn(b, cell, io, &in, dan_dropout(b, x, in.seed, io->dropout), c->hidden, c->hidden);
    }
    dan_scope(b, "%s", "");
    DAN_HERE(b);
    x = dan_dropout(b, x, in.seed, io->dropout);
    dan_ref head = c->tied ? table : dan_param(b, "output.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), "normal:0.02");
    dan_lm_outputs(b, io, x, head);
    return b->err.code;
}
