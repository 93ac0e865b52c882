/* Adapters as PEFT's folders: adapter_config.json and adapter_model.safetensors (names "base_model.model.MODULE.lora_A.weight"). */
#ifndef DAN_MODEL_LORA_FILES_H
#define DAN_MODEL_LORA_FILES_H
#include "base/str.h"
#include "model/lora.h"

/* Writes the adapter `name` to dir; base: the model's path or name, for base_model_name_or_path. */
int dan_lora_save(const struct dan_lm *lm, const char *name, const char *dir, const char *base, struct dan_err *e);
/* Reads an adapter and registers it as `name`, switched on.  Refused by key: what is not plain LoRA on matrices (DoRA, biases, modules_to_save,
 * patterns of alpha, other peft types); refused by tensor: what the model has no place for, halves of pairs, other shapes.  After an
 * error the model is as before, but for tensors that nothing reads. */
int dan_lora_load(struct dan_lm *lm, const char *dir, const char *name, struct dan_err *e);
bool dan_lora_is(const char *dir);             /* holds an adapter_config.json */
/* The base model that an adapter folder names, appended: as it says or, when nothing lies there, beside the folder. */
int dan_lora_base_model(const char *dir, struct dan_str *out, struct dan_err *e);

#endif
