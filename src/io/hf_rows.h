/* config.json's quantization_config of the compressed-tensors layout, as llm-compressor writes it for 8-bit weights with a scale per row
 * or per tensor: https://github.com/vllm-project/compressed-tensors, "quant_config.py". */
#ifndef DAN_IO_HF_ROWS_H
#define DAN_IO_HF_ROWS_H
#include "base/err.h"
#include "base/str.h"

/* DIR/config.json names only what danlu computes: quant_method "compressed-tensors", 8-bit int or float weights with strategy channel or
 * tensor; activations as they come (token) or static (tensor), of the same type, or not at all.  Anything else is refused by its key.
 * A config without the key is fine. */
int dan_hf_rows_check(const char *dir, struct dan_err *e);

/* Modules of one kind. */
struct dan_hf_rows_group {
    bool is_float, asymmetric, is_static, static_asymmetric;
    const char *const *target;                 /* names of modules, or "Linear" */
    size_t n_targets;
};
/* The JSON text of quantization_config. */
int dan_hf_rows_text(const struct dan_hf_rows_group *group, size_t n_groups, const char *const *ignore, size_t n_ignore, struct dan_str *out,
                     struct dan_err *e);

#endif
