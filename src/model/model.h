/* Model families: one file in src/model/ each. */
#ifndef DAN_MODEL_MODEL_H
#define DAN_MODEL_MODEL_H
#include <stddef.h>
#include "graph/graph.h"
#include "io/hf_config.h"           /* struct dan_field */

/* What all causal language models share; a family's config struct starts with it. */
struct dan_lm_config {
    int64_t vocab, context, hidden, layers, heads, kv_heads, head_dim, ffn;
    double  norm_eps, init_std;
    struct dan_rope rope, rope_local;          /* rotary positions; rope_local.base > 0: layers with a window have their own */
    struct dan_window window;                  /* layers that see only the last tokens */
    int64_t query_scale;                       /* scores are divided by its root; 0: head_dim (query_pre_attn_scalar) */
    double  logit_cap, score_cap;              /* > 0: logits, scores of attention are cap tanh(x / cap) (*_logit_softcapping) */
    bool    tied, bias;
    bool    qkv_bias, out_bias, mlp_bias;      /* of the products of attention and feed-forward */
    bool    qk_norm;                           /* RMSNorm of every head of q and k */
    bool    norm_plus;                         /* norms multiply by 1 + weight */
    int64_t bos, eos, pad;                     /* token ids, -1: none */
    bool    score;                             /* score.weight [1,C] is one of the weights (model/score.h) */
    bool    no_lm_head;                        /* of a reward model: no logits */
    double  reward_bias;                       /* added to scores by who shows them, not by the graph */
};

/* Which inputs exist decides what is built (R5): targets present = loss; cache = KV state. */
struct dan_io {
    int64_t max_rows;                          /* N: rows of all sequences */
    int64_t lanes;                             /* time-major families: parallel sequences; N = T * lanes */
    int64_t cache_rows;                        /* S: > 0 = decode with state; rows of the KV cache */
    const struct dan_dtype *cache_type;        /* of the KV cache; NULL: f32 */
    bool    loss;                              /* targets and weights are inputs; output "loss" [1], "row_loss" [N] */
    bool    score;                             /* weights are inputs; outputs "value" [N] = score.weight . h, "loss" [1] = sum of weights * value */
    double  temperature;                       /* loss: of softmax(logits / temperature); 0: 1 */
    bool    logits;                            /* output "logits" [R,V] for the rows in `select` (R <= max_select) */
    int64_t max_select;
    double  dropout;
    double  lora_dropout;                      /* of what trained adapters' branches read (model/lora.h): training only */
    double  neftune;                           /* alpha of the noise on embeddings (op noise): training only */
    bool    adapter_rows;                      /* every adapter that is on has an input "adapter:NAME" f32 [N,1], its weight for each row */
};
/* Input names, all i32 unless noted: tokens[N] pos[N] start[N] stop[N] self[N] targets[N] weights[N] (f32,
 * sums to 1 over a step) select[R] seed[2]; time-major: reset[N] (1 = a sequence begins here) and, with a cache, hold[N] (1 = keep the
 * lane's state) and lane[lanes] = 0..lanes-1. */

struct dan_rename { const char *ours, *hf; bool transpose; };      /* "blk.%d.attn_q.weight", "model.layers.%d...." */

struct dan_model {
    const char *name, *hf_arch, *doc;          /* "llama", "LlamaForCausalLM" */
    const char *hf_model_type;
    bool        time_major;                    /* RNNs: rows are t * lanes + lane */
    size_t      cfg_bytes;
    const struct dan_field  *fields;           /* config.json keys -> the config struct; ends with hf = NULL */
    const struct dan_rename *names;            /* ends with ours = NULL */
    /* GGUF: tensors have danlu's names. */
    const char *gguf_arch;                     /* "llama"; NULL: the family has no GGUF form */
    const struct dan_field  *gguf;             /* keys without "ARCH." -> the config struct; ends with hf = NULL */
    bool        gguf_pairs;                    /* rows of attn_q and attn_k lie there as pairs (2i, 2i+1) of each head; here and in HF as halves */
    bool        gguf_norm_plus;                /* norm weights there are those of HF + 1 */
    /* Fills what the command line left 0 (ffn, kv_heads, head_dim) and checks the rest. */
    int (*complete)(void *cfg, struct dan_err *e);
    int (*build)(struct dan_builder *b, const void *cfg, const struct dan_io *io);   /* adds the outputs; errors stick in b */
};
extern const struct dan_model *const dan_models[];               /* generated */
const struct dan_model *dan_model_find(const char *name);         /* by name, hf_arch or hf_model_type; NULL when there is none */

/* The checks that all language models share: heads divide hidden, kv_heads divide heads; fills 0s. */
int dan_lm_complete(struct dan_lm_config *c, struct dan_err *e);
/* Tokens of a sequence that the model can take: its context, or with dynamic scaling of positions factor times that. */
int64_t dan_lm_longest(const struct dan_lm_config *c);
static inline bool dan_lm_windowed(const struct dan_lm_config *c, int64_t layer)
{
    return c->window.width > 0 && layer >= 0 && layer < 256 && c->window.layer[layer / 64] >> (layer % 64) & 1;
}

#endif
