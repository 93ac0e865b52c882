/* A language model in memory: family, config, weights. */
#ifndef DAN_MODEL_LM_H
#define DAN_MODEL_LM_H
#include "core/buffer.h"
#include "model/model.h"
#include "pass/pass.h"

/* A low-rank adapter whose matrices are in the store (lora.h). */
struct dan_adapter { char name[32]; double scale; bool on, trained; };       /* trained: its matrices get gradients, nothing else does */
enum { DAN_MAX_ADAPTERS = 8 };

struct dan_lm {
    const struct dan_model *model;
    struct dan_lm_config    cfg;
    struct dan_store       *store;             /* by danlu's names */
    struct dan_adapter      adapter[DAN_MAX_ADAPTERS];
    int32_t                 n_adapters;
};

/* Fresh weights: each tensor from its own Philox stream, named by the tensor, so that they do not
 * depend on order, threads or fusion. */
int  dan_lm_init(struct dan_lm *lm, const struct dan_model *model, const struct dan_lm_config *cfg, uint64_t seed, struct dan_err *e);
/* Opens a Hugging Face model directory, a GGUF file or a llama2.c checkpoint.  writable: weights are copied to own f32 memory
 * (training); else they are views of the mapped file where the layout allows. */
int  dan_lm_load(struct dan_lm *lm, const char *path, bool writable, struct dan_err *e);
/* The same with every tensor in the storage format that the file has: for conversion, not for running. */
int  dan_lm_load_stored(struct dan_lm *lm, const char *path, struct dan_err *e);
/* Writes config.json, generation_config.json and model.safetensors, each atomically. */
int  dan_lm_save(const struct dan_lm *lm, const char *dir, struct dan_err *e);
/* The same in files of at most so many bytes of tensors; 0: one. */
int  dan_lm_save_shards(const struct dan_lm *lm, const char *dir, int64_t shard_bytes, struct dan_err *e);
/* Copies what belongs to a model but not to its weights: tokenizer files, chat template, generation_config.json. */
int  dan_lm_copy_beside(const char *from, const char *to, struct dan_err *e);
void dan_lm_release(struct dan_lm *lm);
int64_t dan_lm_n_params(const struct dan_lm *lm);                 /* elements; tied weights once */

/* Nobody reads the param but products x W^T, as W, and embeddings, as the table: they take any storage format. */
bool dan_lm_only_products(const struct dan_graph *g, dan_ref param);
/* The forward graph for io, with params typed as the store holds them (q8_0, bf16), then the pipeline.  A product with weights
 * stored as bf16 is a bf16 product, whatever o->prec says: its other operand is rounded, the sums are f32. */
int  dan_lm_graph(const struct dan_lm *lm, const struct dan_io *io, const char *pipeline, const struct dan_pass_opts *o,
                  struct dan_graph **out, struct dan_err *e);

/* danlu's name -> the file's name in `out`; false when the family does not know it. */
bool dan_lm_hf_name(const struct dan_model *m, const char *ours, char *out, size_t n, bool *transpose);

#endif
