#include "model/model.h"
#include <math.h>
#include <string.h>

const struct dan_model *dan_model_find(const char *name)
{
    for (int i = 0; dan_models[i]; i++) {
        const struct dan_model *m = dan_models[i];
        if (strcmp(m->name, name) == 0 || strcmp(m->hf_arch, name) == 0 || strcmp(m->hf_model_type, name) == 0) return m;
    }
    return NULL;
}

/* Sizes may come from a file that means harm: bounded before a graph is made of them. */
static int check_sizes(const struct dan_lm_config *c, struct dan_err *e)
{
    const struct { const char *key; int64_t v, most; } sizes[] = {
        {"vocab_size", c->vocab, INT32_MAX}, {"max_position_embeddings", c->context, INT32_MAX}, {"hidden_size", c->hidden, 1 << 24},
        {"num_hidden_layers", c->layers, 4096}, {"num_attention_heads", c->heads, 65536}, {"num_key_value_heads", c->kv_heads, 65536},
        {"head_dim", c->head_dim, 65536}, {"intermediate_size", c->ffn, 1 << 24}, {"query_pre_attn_scalar", c->query_scale, 1 << 24}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].v < 0 || sizes[i].v > sizes[i].most)
            return dan_fail(e, DAN_EINVAL, "'%s' is %lld; danlu takes 0 to %lld: is config.json right?", sizes[i].key, (long long)sizes[i].v,
                            (long long)sizes[i].most);
    if (!isfinite(c->norm_eps) || c->norm_eps < 0 || !isfinite(c->init_std) || !isfinite(c->logit_cap) || c->logit_cap < 0 || !isfinite(c->score_cap) || c->score_cap < 0)
        return dan_fail(e, DAN_EINVAL, "the epsilon of norms (%g), initializer_range (%g), final_logit_softcapping (%g) or "
                        "attn_logit_softcapping (%g) is negative or no finite number: is config.json right?", c->norm_eps, c->init_std,
                        c->logit_cap, c->score_cap);
    return DAN_OK;
}

int dan_lm_complete(struct dan_lm_config *c, struct dan_err *e)
{
    int rc = check_sizes(c, e);
    if (rc) return rc;
    if (c->vocab < 1 || c->hidden < 1 || c->layers < 1 || c->context < 1)
        return dan_fail(e, DAN_EINVAL, "vocab, hidden, layers and context must be at least 1 (got %lld, %lld, %lld, %lld)",
                        (long long)c->vocab, (long long)c->hidden, (long long)c->layers, (long long)c->context);
    /* GPT-2's 0.02 belongs to hidden sizes from 768 on; a small model needs larger weights for the same
     * activations.  Tiny Shakespeare, hidden 128, 2,000 steps: validation loss 1.76 against 1.89 (docs/LOG.md). */
    if (!(c->init_std > 0)) c->init_std = c->hidden < 768 ? 0.02 * sqrt(768.0 / (double)c->hidden) : 0.02;
    if (c->heads < 1) c->heads = c->hidden >= 64 ? c->hidden / 64 : 1;
    if (c->kv_heads < 1) c->kv_heads = c->heads;
    if (c->head_dim < 1) {
        if (c->hidden % c->heads) {
            int64_t near = c->hidden / c->heads * c->heads;
            return dan_fail(e, DAN_EINVAL, "%lld heads do not divide hidden size %lld; try --hidden %lld or %lld, or another --heads",
                            (long long)c->heads, (long long)c->hidden, (long long)(near ? near : c->heads), (long long)(near + c->heads));
        }
        c->head_dim = c->hidden / c->heads;
    }
    if (c->heads % c->kv_heads)
        return dan_fail(e, DAN_EINVAL, "%lld key/value heads do not divide %lld heads; choose --kv-heads so that heads is a multiple of it",
                        (long long)c->kv_heads, (long long)c->heads);
    return DAN_OK;
}

int64_t dan_lm_longest(const struct dan_lm_config *c)
{
    double longest = (double)c->context * (c->rope.kind == DAN_ROPE_DYNAMIC && c->rope.factor > 1 ? c->rope.factor : 1);
    return longest < INT32_MAX ? (int64_t)longest : INT32_MAX;
}
