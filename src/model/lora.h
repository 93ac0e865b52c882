/* LoRA (Hu et al. 2021): y = x W^T becomes y = x W^T + s (x A^T) B^T with A [r,in], B [out,r] trained and W frozen.
 *
 * An adapter is a name, its scale, and tensors "W@NAME.lora_a", "W@NAME.lora_b" beside "W" in the model's store: what
 * dan_lm_graph finds there it builds in, so that training, inference, quantised bases and several adapters at once are the same code.
 * B begins as zeros: a fresh adapter changes no bit of y (but the sign of a zero). */
#ifndef DAN_MODEL_LORA_H
#define DAN_MODEL_LORA_H
#include "model/lm.h"

struct dan_lora_opts {
    const char *name;                          /* without '@', '+' and '.'; NULL: "default" */
    int64_t rank;
    double  alpha;                             /* the scale is alpha / rank or, rslora, alpha / sqrt(rank) (Kalajdzievski 2023) */
    bool    rslora;
    const char *targets;                       /* "all-linear", "attn", "mlp", or names separated by commas as in danlu, GGUF or Hugging
                                                * Face: "attn_q,attn_v", "q_proj,v_proj"; never the head or the embeddings unless named */
    int64_t first_layer, last_layer;           /* inclusive; last < 0: to the end */
    uint64_t seed;
};

/* Adds an adapter with fresh weights: A uniform in +-1 / sqrt(in) (what PEFT's default comes to), B zeros.  The matrices may be in any format.
 * Fails when no matrix is a target, a name is none, or the rank exceeds a matrix. */
int  dan_lora_add(struct dan_lm *lm, const struct dan_lora_opts *o, struct dan_err *e);
/* Registers an adapter whose tensors are in the store. */
int  dan_lora_register(struct dan_lm *lm, const char *name, double scale, struct dan_err *e);
struct dan_adapter *dan_lora_find(struct dan_lm *lm, const char *name);          /* NULL when there is none */
int64_t dan_lora_params(const struct dan_lm *lm, const char *name);              /* elements of its tensors */

/* W += by s B A for every target, in f32, rounded once to W's format (f32 or bf16; a quantised W is refused: dequantise it first, and know
 * that this is another function).  lm's weights must be in memory of its own (dan_lm_load, writable).  by 1 merges, -1 takes away what was merged (exact but for rounding).  The adapter stays, switched off. */
int  dan_lora_merge(struct dan_lm *lm, const char *name, double by, struct dan_err *e);

/* "W@NAME.lora_a" -> W's length; 0: no name of an adapter's tensor.  *name, *name_n: the adapter's. */
size_t dan_lora_base(const char *tensor, const char **name, size_t *name_n);

/* What dan_lm_graph calls: the adapters that are on. */
int  dan_lora_build(struct dan_graph *g, const struct dan_lm *lm, struct dan_err *e);

#endif
