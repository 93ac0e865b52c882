/* LoRA (Hu et al. 2021): y = x W^T becomes y = x W^T + s (x A^T) B^T with A [r,in], B [out,r] trained and W frozen.
 *
 * An adapter is a name, its scale, and tensors "W@NAME.lora_a", "W@NAME.lora_b" beside "W" in the model's store: what
 * dan_lm_graph finds there it builds in, so that training, inference, quantised bases and several adapters at once are the same code.
 * B begins as zeros: a fresh adapter changes no bit of y (but the sign of a zero).
 *
 * DoRA (Liu et al. 2024): y = c (x (W + s B A)^T), c = m / n, for every output row a learned magnitude m ("W@NAME.dora_m" [out]) over
 * n = |W + s B A| of the row ("W@NAME.dora_norm" [out]), which is a constant to the gradient, as in PEFT.  n is computed here, on the host,
 * whenever A and B have changed: dan_lora_refresh.  m begins as n, so c = 1 and nothing changes, either. */
#ifndef DAN_MODEL_LORA_H
#define DAN_MODEL_LORA_H
#include "base/threads.h"
#include "model/lm.h"

struct dan_quant_policy;
enum { DAN_LORA_NAME = 512 };                   /* more than any tensor's name and an adapter's */

struct dan_lora_opts {
    const char *name;                          /* without '@', '+' and '.'; NULL: "default" */
    int64_t rank;
    double  alpha;                             /* the scale is alpha / rank or, rslora, alpha / sqrt(rank) (Kalajdzievski 2023) */
    bool    rslora, dora;
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

/* Sets "dora_norm" of adapter `name` (NULL: of every one) from W, A and B, a row a thread; does nothing for adapters without DoRA.  Call it after A or B
 * changed. */
int  dan_lora_refresh(struct dan_lm *lm, const char *name, struct dan_pool *pool, struct dan_err *e);
bool dan_lora_is_dora(const struct dan_lm *lm, const char *name);

/* W += by s B A for every target, in f32, rounded once to W's format (f32 or bf16; a quantised W is refused: dequantise it first, and know
 * that this is another function).  lm's weights must be in memory of its own (dan_lm_load, writable).  by 1 merges, -1 takes away what was
 * merged (exact but for rounding; not for DoRA, whose rows' norms are gone, nor with a score head of the adapter's own).  When merging, such
 * a head becomes the model's, and an adapter of tied embeddings, which is one of the head, unties them.  What is refused changes nothing.
 * The adapter stays: switched off where it was merged, on where it was taken away. */
int  dan_lora_merge(struct dan_lm *lm, const char *name, double by, struct dan_err *e);

/* Adapters of one model as one, registered as `as` with scale 1 and switched on; the others are switched off.  CAT: ranks one after the other, A = [w1 s1 A1; ...],
 * B = [B1, ...], which is the weighted sum of the adapters; LINEAR: A = sum of sign(w s) sqrt|w s| A_i, B = sum of sqrt|w s| B_i, for equal
 * ranks, which is not (it has cross terms).  Both as PEFT's add_weighted_adapter.  Without DoRA and without
 * score heads of their own. */
enum dan_lora_mix { DAN_LORA_CAT, DAN_LORA_LINEAR };
int  dan_lora_stack(struct dan_lm *lm, const char *const *names, const double *weights, int n, enum dan_lora_mix how, const char *as, struct dan_err *e);
/* Removes all tensors of adapters, and the adapters.  Before lm is bound to a program. */
int  dan_lora_drop(struct dan_lm *lm, struct dan_err *e);

/* "W@NAME.lora_a" -> W's length; 0: no name of an adapter's tensor.  *name, *name_n: the adapter's. */
size_t dan_lora_base(const char *tensor, const char **name, size_t *name_n);

bool dan_lora_owns(const char *tensor, const char *name);                        /* the tensor is one of adapter `name` */
/* The matrix of a tensor "W@NAME.lora_a" of adapter `name`, in `base`; NULL: another tensor. */
const char *dan_lora_base_of(const char *tensor, const char *name, char base[DAN_LORA_NAME]);
struct dan_tensor *dan_lora_part(const struct dan_lm *lm, const char *base, const char *adapter, const char *which);   /* NULL: none */

/* For lora.c and the readers of files: the tensors of DoRA for one matrix; their first values. */
int  dan_lora_add_dora(struct dan_lm *lm, const char *adapter, const char *base, struct dan_err *e);
int  dan_lora_set_magnitudes(struct dan_lm *lm, const char *adapter, struct dan_err *e);

/* What dan_lm_graph calls: the adapters that are on.  Trained ones have dropout (io->lora_dropout) and, with a policy, stand inside the rounding of
 * quantisation-aware training: x W'^T with W' = Q(W + s B A), by any method of pass/fake_quant.h; learned scales are params beside W. */
int  dan_lora_build(struct dan_graph *g, const struct dan_lm *lm, const struct dan_io *io, const struct dan_quant_policy *quant, struct dan_err *e);
int  dan_lora_noise(struct dan_graph *g, const struct dan_io *io, struct dan_err *e);     /* io->neftune on embeddings */

#endif
