/* Matrices with a scale per row (quantize_rows.h) in a Hugging Face folder: the layout of compressed-tensors.  X.weight i8 or f8_e4m3 [N,K],
 * X.weight_scale [N,1] (or [1]), X.weight_zero_point, X.input_scale and X.input_zero_point [1]. */
#ifndef DAN_MODEL_COMPRESSED_H
#define DAN_MODEL_COMPRESSED_H
#include "base/str.h"
#include "model/files_impl.h"

/* The tensor `hf` of a file holds levels with a scale. */
bool dan_is_compressed(const struct dan_store *file, const char *hf);
/* Takes it and its companions into lm->store as `name` [N,K]; as f32 numbers where src->how says so. */
int  dan_take_compressed(struct dan_lm *lm, const char *name, const struct dan_source *src, const char *hf, struct dan_err *e);

/* For saving, what companion `name` of lm->store becomes in the file: up to two tensors of `into` under their names there. */
int  dan_put_compressed(const struct dan_lm *lm, const char *name, struct dan_store *into, struct dan_err *e);
/* quantization_config of lm; out stays empty when no matrix has a scale per row. */
int  dan_compressed_config(const struct dan_lm *lm, struct dan_str *out, struct dan_err *e);

#endif
