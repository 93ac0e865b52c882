/* Importance matrices: the mean square of every input column of every product, also as llama.cpp's tools keep them.
 *
 * NAME.gguf: keys general.type "imatrix", imatrix.datasets [text], imatrix.chunk_count, imatrix.chunk_size; for the weights of every product, by their
 * GGUF name, f32 tensors W.in_sum2 [matrices,k] = sums of squares, and W.counts [matrices,1] = rows in them.
 * Any other name is the older file (imatrix.dat, little endian): i32 entries; each: i32 length and bytes of the weights' GGUF name, i32 calls, i32 n,
 * f32 [n] = mean square times calls.  Then, where it was written by a newer one: i32 chunks, i32 length and bytes of the text's name. */
#ifndef DAN_QUANT_IMATRIX_H
#define DAN_QUANT_IMATRIX_H
#include "quant/observe.h"

struct dan_imatrix_entry { char *name; int64_t k; float *sums; double rows; };                 /* rows > 0; the older file calls them calls */
struct dan_imatrix { struct dan_imatrix_entry *v; size_t n, cap; int32_t chunks; char *text; };

static inline float dan_imatrix_mean(const struct dan_imatrix_entry *x, int64_t i) { return (float)((double)x->sums[i] / x->rows); }   /* mean square of column i */

/* Takes copies.  squares[k] >= 0: sums over `rows`. */
int  dan_imatrix_add(struct dan_imatrix *m, const char *name, const double *squares, int64_t rows, int64_t k, struct dan_err *e);
const struct dan_imatrix_entry *dan_imatrix_find(const struct dan_imatrix *m, const char *name);     /* NULL: none */
/* Either file, told apart by its first bytes.  What it says is checked against its size; a value that is no finite number or below 0 is an error. */
int  dan_imatrix_load(const char *path, struct dan_imatrix *out, struct dan_err *e);
/* A path that ends in .gguf: the newer file; else the older. */
int  dan_imatrix_save(const struct dan_imatrix *m, const char *path, struct dan_err *e);
/* Parts of these: out is empty, and the caller's to release also after a failure. */
int  dan_imatrix_load_gguf(const char *path, struct dan_imatrix *out, struct dan_err *e);
int  dan_imatrix_save_gguf(const struct dan_imatrix *m, const char *path, struct dan_err *e);
int  dan_imatrix_check(const struct dan_imatrix_entry *x, const char *path, struct dan_err *e);
/* Of every product of lm, in float, on text.  out is empty, {0}. */
int  dan_imatrix_collect(const struct dan_lm *lm, const struct dan_sequences *text, struct dan_pool *pool, struct dan_imatrix *out, struct dan_err *e);
void dan_imatrix_release(struct dan_imatrix *m);

#endif
