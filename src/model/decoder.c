/* Around the blocks of a decoder. */
#include "model/decoder.h"
#include <stdio.h>

int dan_decoder_complete(struct dan_lm_config *c, struct dan_err *e)
{
    int rc = dan_lm_complete(c, e);
    if (!rc) rc = dan_nn_complete_positions(c, e);
    if (!c->ffn) c->ffn = (c->hidden * 8 / 3 + 31) / 32 * 32;                /* LLaMA: 8/3 C, rounded up */
    if (!(c->norm_eps > 0)) c->norm_eps = 1e-5;
    return rc;
}

int dan_decoder_build(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, dan_block *block, double embed_scale)
{
    struct dan_lm_in in = dan_lm_inputs(b, io, false);
    char init[32];
    snprintf(init, sizeof init, "normal:%.9g", c->init_std);
    dan_nn_positions(b, c, &in);
    DAN_HERE(b);
    dan_ref table = dan_param(b, "token_embd.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), init);
    dan_ref x = dan_embed(b, table, in.tokens);
    if (embed_scale != 1) x = dan_scale(b, x, embed_scale);
    x = dan_dropout(b, x, in.seed, io->dropout);
    for (int64_t i = 0; i < c->layers; i++) {
        dan_scope(b, "blk.%d.", (int)i);
        DAN_HERE(b);
        x = block(b, c, io, &in, x);
    }
    dan_scope(b, "%s", "");
    DAN_HERE(b);
    x = dan_nn_norm(b, c, x, "output_norm", c->hidden);
    dan_ref head = c->tied ? table : dan_param(b, "output.weight", &dan_dtype_f32, DAN_SHAPE(c->vocab, c->hidden), init);
    dan_lm_outputs_capped(b, io, x, head, c->logit_cap);
    return b->err.code;
}
