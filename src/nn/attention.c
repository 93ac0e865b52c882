/* Attention: the same nodes for training, prefill and decode (R5); a cache only adds two writes. */
#include <math.h>
#include "nn/nn.h"

static dan_ref cached(struct dan_builder *b, const struct dan_io *io, const char *name, dan_ref rows, dan_ref slot, int64_t width)
{
    const struct dan_dtype *type = io->cache_type ? io->cache_type : &dan_dtype_f32;
    return dan_kv_write(b, dan_state(b, name, type, DAN_SHAPE(io->cache_rows, width)), rows, slot);
}

dan_ref dan_nn_attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref q, dan_ref k, dan_ref v)
{
    int64_t width = c->kv_heads * c->head_dim;
    if (io->cache_rows > 0) {
        k = cached(b, io, "cache_k", k, in->slot, width);
        v = cached(b, io, "cache_v", v, in->slot, width);
    }
    return dan_pick(b, dan_attend(b, q, k, v, in->range, c->heads, c->kv_heads, 1 / sqrt((double)c->head_dim)), 0);
}
