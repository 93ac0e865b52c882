/* Attention: the same nodes for training, prefill and decode (R5); a cache only adds two writes. */
#include <math.h>
#include "core/kv.h"
#include "nn/nn.h"

int dan_nn_complete_positions(struct dan_lm_config *c, struct dan_err *e)
{
    struct dan_rope *both[] = {&c->rope, &c->rope_local};
    for (int i = 0; i < 2; i++) {
        struct dan_rope *r = both[i];
        if (i == 1 && !(r->base > 0)) break;
        const double given[] = {r->base, r->factor, r->low, r->high, r->original, r->by, r->part};
        for (size_t k = 0; k < sizeof given / sizeof *given; k++)
            if (!isfinite(given[k]) || given[k] < 0) return dan_fail(e, DAN_EINVAL, "a number of the rotary positions is %g; it must be above 0", given[k]);
        dan_rope_complete(r, c->head_dim, c->context);
        if (r->dim % 2 || r->dim < 2 || r->dim > c->head_dim)
            return dan_fail(e, DAN_EINVAL, "rotary positions need an even number of dims, got %lld of a head dim of %lld; choose --heads "
                            "so that hidden / heads is even", (long long)r->dim, (long long)c->head_dim);
        if (r->kind == DAN_ROPE_DYNAMIC && r->dim == 2)
            return dan_fail(e, DAN_EINVAL, "'dynamic' scaling of positions needs more than 2 rotary dims");
    }
    return DAN_OK;
}

void dan_nn_positions(struct dan_builder *b, const struct dan_lm_config *c, struct dan_lm_in *in)
{
    bool dynamic = c->rope.kind == DAN_ROPE_DYNAMIC;
    in->turn = in->turn_local = dan_rope_table(b, in->pos, dynamic ? in->start : 0, dynamic ? in->stop : 0, &c->rope);
    if (!c->window.width) return;
    in->window = dan_attend_range(b, in->start, in->stop, in->slot, 0, DAN_MASK_WINDOW, c->window.width);
    if (c->rope_local.base > 0) in->turn_local = dan_rope_table(b, in->pos, 0, 0, &c->rope_local);
}

/* The cache of one layer, by heads (core/kv.h). */
static dan_ref cached(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, bool values, dan_ref rows, dan_ref slot)
{
    const struct dan_dtype *type = io->cache_type ? io->cache_type : &dan_dtype_f32;
    dan_ref cache = dan_state(b, values ? "cache_v" : "cache_k", type, dan_kv_shape(type, c->kv_heads, io->cache_rows, c->head_dim));
    return dan_kv_write_heads(b, cache, rows, slot, values);
}

dan_ref dan_nn_attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref q, dan_ref k, dan_ref v)
{
    if (io->cache_rows > 0) {
        k = cached(b, c, io, false, k, in->slot);
        v = cached(b, c, io, true, v, in->slot);
    }
    dan_ref range = dan_lm_windowed(c, b->layer) ? in->window : in->range;
    double scale = 1 / sqrt((double)(c->query_scale > 0 ? c->query_scale : c->head_dim));
    return dan_pick(b, dan_attend_capped(b, q, k, v, range, c->heads, c->kv_heads, scale, c->score_cap), 0);
}

/* Every head of x [N,H*D] by itself. */
static dan_ref norm_heads(struct dan_builder *b, const struct dan_lm_config *c, dan_ref x, const char *name)
{
    return dan_merge_dims(b, dan_nn_norm(b, c, dan_split_dim(b, x, 1, c->head_dim), name, c->head_dim), 1);
}

dan_ref dan_nn_attention_of(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref q, dan_ref k, dan_ref v)
{
    dan_ref turn = dan_lm_windowed(c, b->layer) ? in->turn_local : in->turn;
    if (c->qk_norm) {
        q = norm_heads(b, c, q, "attn_q_norm");
        k = norm_heads(b, c, k, "attn_k_norm");
    }
    q = dan_rope(b, q, turn, c->head_dim, 0);
    k = dan_rope(b, k, turn, c->head_dim, 0);
    dan_ref y = dan_nn_attention(b, c, io, in, q, k, v);                                                      /* [N,H*D] */
    return dan_nn_linear(b, y, "attn_output", c->heads * c->head_dim, c->hidden, c->out_bias, dan_nn_residual_std(c));
}

dan_ref dan_nn_self_attention(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, const struct dan_lm_in *in, dan_ref h)
{
    int64_t q_width = c->heads * c->head_dim, kv_width = c->kv_heads * c->head_dim;
    dan_ref q = dan_nn_linear(b, h, "attn_q", c->hidden, q_width, c->qkv_bias, c->init_std);                  /* [N,H*D] */
    dan_ref k = dan_nn_linear(b, h, "attn_k", c->hidden, kv_width, c->qkv_bias, c->init_std);                 /* [N,K*D] */
    dan_ref v = dan_nn_linear(b, h, "attn_v", c->hidden, kv_width, c->qkv_bias, c->init_std);
    return dan_nn_attention_of(b, c, io, in, q, k, v);
}

dan_ref dan_nn_gated_mlp(struct dan_builder *b, const struct dan_lm_config *c, dan_ref h, enum dan_act act)
{
    dan_ref gate = dan_nn_linear(b, h, "ffn_gate", c->hidden, c->ffn, c->mlp_bias, c->init_std);              /* [N,F] */
    dan_ref up = dan_nn_linear(b, h, "ffn_up", c->hidden, c->ffn, c->mlp_bias, c->init_std);
    return dan_nn_linear(b, dan_mul(b, dan_act(b, gate, act), up), "ffn_down", c->ffn, c->hidden, c->mlp_bias, dan_nn_residual_std(c));
}
