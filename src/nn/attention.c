/* Attention: the same nodes for training, prefill and decode (R5); a cache only adds two writes. */
#include <math.h>
#include "nn/nn.h"

static dan_ref cached(struct dan_builder *b, const char *name, dan_ref rows, dan_ref slot, int64_t n_rows, int64_t width)
{
    return dan_kv_write(b, dan_state(b, name, &dan_dtype_f32, DAN_SHAPE(n_rows, width)), rows, slot);
}

dan_ref dan_nn_attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref q, dan_ref k, dan_ref v)
{
    int64_t width = c->kv_heads * c->head_dim;
    if (io->cache_rows > 0) {
        k = cached(b, "cache_k", k, in->slot, io->cache_rows, width);
        v = cached(b, "cache_v", v, in->slot, io->cache_rows, width);
    }
    return dan_pick(b, dan_attend(b, q, k, v, in->range, c->heads, c->kv_heads, 1 / sqrt((double)c->head_dim)), 0);
}
