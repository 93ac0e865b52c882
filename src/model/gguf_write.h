#ifndef DAN_MODEL_GGUF_WRITE_H
#define DAN_MODEL_GGUF_WRITE_H
#include "io/gguf.h"
#include "model/lm.h"

/* general.* and the family's keys. */
int dan_lm_gguf_keys(const struct dan_lm *lm, struct dan_gguf_out *o, struct dan_err *e);
/* The tensors, with o's keys before them; each in the format that it has in lm, so cast first: llama.cpp wants vectors as f32. */
int dan_lm_save_gguf(const struct dan_lm *lm, struct dan_gguf_out *o, const char *path, struct dan_err *e);

/* Matrices, and vectors with the table of positions, to other storage formats; NULL: as they are.  Rows that are no multiple of a
 * block take the format's fallback, as in llama.cpp (dan_dtype_for_rows: q4_k becomes q5_0), or f16 when that does not fit either. */
int dan_lm_cast(struct dan_lm *lm, const struct dan_dtype *matrices, const struct dan_dtype *vectors, struct dan_err *e);
/* The way back from GGUF, where vectors are f32: when all matrices are bf16 (f16) and every vector fits it, vectors become that. */
int dan_lm_narrow_vectors(struct dan_lm *lm, struct dan_err *e);

#endif
