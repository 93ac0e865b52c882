/* What the readers and writers of model files share. */
#ifndef DAN_MODEL_FILES_IMPL_H
#define DAN_MODEL_FILES_IMPL_H
#include "model/lm.h"

enum dan_take {
    DAN_TAKE_VIEW,                             /* what danlu computes with: views of the file where the layout allows, else own f32 */
    DAN_TAKE_F32,                              /* own f32 memory: training */
    DAN_TAKE_STORED,                           /* in the file's storage format: conversion */
};
struct dan_source {
    const char *path;                          /* for messages */
    const struct dan_store *file;
    bool ours;                                 /* names are danlu's: GGUF, llama2.c.  Else Hugging Face's */
    bool pairs, norm_plus;                     /* struct dan_model, gguf_pairs and gguf_norm_plus */
    enum dan_take how;
};
/* Fills lm->store with every param of the family's graph.  A tensor that no param takes is refused when names are danlu's: it would
 * change the arithmetic. */
int dan_lm_take_all(struct dan_lm *lm, const struct dan_source *src, struct dan_err *e);

/* Rotary pairs of a head of d rows: halves (i, i + d/2) or pairs (2i, 2i + 1).  Which row of the other order is row r here. */
static inline int64_t dan_row_of_pairs(int64_t r, int64_t d) { return r / d * d + r % d % (d / 2) * 2 + r % d / (d / 2); }
static inline int64_t dan_row_of_halves(int64_t r, int64_t d) { return r / d * d + r % d % 2 * (d / 2) + r % d / 2; }
bool dan_is_rotary(const char *name);          /* weight or bias of attn_q or attn_k */
bool dan_is_norm(const char *name);

/* A copy of t as a new tensor of `into`: rows (elements of a vector) in the order `row` gives (NULL: as they are; d is its second
 * argument), in the format `to` (NULL: its own), `plus` added (then f32). */
struct dan_edit { int64_t (*row)(int64_t r, int64_t d); int64_t d; const struct dan_dtype *to; float plus; };
int dan_copy_edited(struct dan_store *into, const char *name, const struct dan_tensor *t, const struct dan_edit *edit, struct dan_err *e);
int dan_copy_transposed(struct dan_store *to, const char *name, const struct dan_tensor *t, bool f32, struct dan_err *e);

int dan_lm_load_gguf(struct dan_lm *lm, const char *path, enum dan_take how, struct dan_err *e);
int dan_lm_load_llama2c(struct dan_lm *lm, const char *path, enum dan_take how, struct dan_err *e);

#endif
