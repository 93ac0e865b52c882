/* Adapters as PEFT's folders: adapter_config.json and adapter_model.safetensors (names "base_model.model.MODULE.lora_A.weight"). */
#ifndef DAN_MODEL_LORA_FILES_H
#define DAN_MODEL_LORA_FILES_H
#include "base/str.h"
#include "model/lora.h"

/* Writes the adapter `name` to dir; base: the model's path or name, for base_model_name_or_path. */
int  dan_lora_save(const struct dan_lm *lm, const char *name, const char *dir, const char *base, struct dan_err *e);
/* Reads an adapter, PEFT's folder or a .gguf, and registers it as `name`, switched on.  LoRA and DoRA; where patterns give a matrix another rank or
 * alpha, its B takes the quotient of the scales.  A score head
 * among modules_to_save becomes the adapter's own (score.h).  Refused by key: what is neither (biases, other modules_to_save, other peft types); refused by
 * tensor: what the model has no place for, halves of pairs, other shapes.  After an error the model is as before, but for tensors that
 * nothing reads. */
int  dan_lora_load(struct dan_lm *lm, const char *path, const char *name, struct dan_err *e);

/* GGUF (general.type = "adapter", adapter.type = "lora"): tensors "W.lora_a" [r,in], "W.lora_b" [out,r], scale = adapter.lora.alpha / r; rows of B of rotary
 * matrices lie as those of W.  What llama.cpp's --lora reads.  DoRA has no form there. */
int  dan_lora_save_gguf(const struct dan_lm *lm, const char *name, const char *path, struct dan_err *e);
int  dan_lora_load_gguf(struct dan_lm *lm, const char *path, const char *name, struct dan_err *e);
bool dan_lora_is_gguf(const char *path);       /* a GGUF whose general.type is adapter */

bool dan_lora_is(const char *dir);             /* holds an adapter_config.json */
/* The base model that an adapter folder names, appended: as it says or, when nothing lies there, beside the folder. */
int dan_lora_base_model(const char *dir, struct dan_str *out, struct dan_err *e);

/* A reward model's adapter: what is added to its scores, "reward_bias" of adapter_config.json; where it says nothing (a .gguf never does) *bias stays. */
int  dan_lora_reward_bias(const char *adapter, double *bias, struct dan_err *e);
int  dan_lora_save_reward_bias(const char *dir, double bias, struct dan_err *e);

/* The storage format that the base was quantised to while the adapter learned (QLoRA), beside the adapter; appended, nothing: as it is.  A .gguf says nothing. */
int  dan_lora_save_base_format(const char *dir, const char *format, struct dan_err *e);
int  dan_lora_base_format(const char *path, struct dan_str *out, struct dan_err *e);
/* The one rule of what that is: the matrices of layers; embeddings and head stay.  Before lm is bound to a program. */
int  dan_lora_quantise(struct dan_lm *lm, const char *format, struct dan_pool *pool, struct dan_err *e);
/* Makes lm the base that the adapter learned over, before the adapter is loaded; *done: it had to be quantised, which it is not where it is already. */
int  dan_lora_quantise_base(struct dan_lm *lm, const char *adapter, struct dan_pool *pool, bool *done, struct dan_err *e);
/* lm, the adapter's base in own f32 memory, becomes the model that was trained: of floats, the adapter in it, its score head and bias the model's,
 * no adapter left. */
int  dan_lora_merge_into(struct dan_lm *lm, const char *adapter, struct dan_pool *pool, struct dan_err *e);

#endif
