/* Weights with a scale per row: int8 per output channel (or per tensor), fp8 with a scale per row; and static int8 activations.
 *
 * The matrix NAME [N,K] (N output channels) becomes i8 or f8_e4m3 and gets companions in the store, all f32:
 *   NAME.scale [N]                w = scale_n q
 *   NAME.zero [N]                 asymmetric: w = scale_n (q - zero_n); a whole number in -128..127
 *   NAME.input_scale [2]          static activations: {s, z}; x is used as s (clamp(rint(x / s) + z, -128, 127) - z)
 * Without input_scale activations are quantised as they come, one scale per token.  Graphs of this store (dan_lm_graph) give the
 * companions to the products that read NAME (op matmul, inputs 4 to 6). */
#ifndef DAN_MODEL_QUANTIZE_ROWS_H
#define DAN_MODEL_QUANTIZE_ROWS_H
#include "model/lm.h"

struct dan_rows_format {
    const struct dan_dtype *to;                /* dan_dtype_i8, or the format "f8_e4m3" */
    bool asymmetric;                           /* i8: levels -128..127 with a zero point; else -127..127 */
    bool per_tensor;                           /* the same scale (and zero) for all rows */
    const float *scale, *zero;                 /* [N]: given, by a better method; NULL: from the largest of each row */
};

/* "int8", "int8_asym", "int8_tensor" (symmetric, per tensor), "f8"; the error lists them. */
int  dan_rows_format_find(const char *name, struct dan_rows_format *out, struct dan_err *e);

/* Why param `name` of graph g (of dan_lm_graph) cannot have this form; NULL: it can.  Only matrices that nothing but products x W^T
 * reads can: an embedding table, also a tied one, stays. */
const char *dan_rows_why_not(const struct dan_lm *lm, const struct dan_graph *g, const char *name, const struct dan_rows_format *f);

/* Replaces param `name` in lm->store.  Before lm is bound to a program.  *error (may be NULL): root of
 * sum (w' - w)^2 / sum w^2.  Fails on what dan_rows_why_not says (it builds the graph itself), on NaN and infinities in the weights
 * (naming the row), on a scale that is not positive and finite, on a zero that is no whole number in range. */
int  dan_lm_quantize_rows(struct dan_lm *lm, const char *name, const struct dan_rows_format *f, double *error, struct dan_err *e);

/* The same with levels chosen by the caller (GPTQ and its kin): levels [N,K] in format `to`, scale [N], zero [N] or NULL. */
int  dan_lm_put_rows(struct dan_lm *lm, const char *name, const struct dan_dtype *to, const void *levels, const float *scale,
                     const float *zero, struct dan_err *e);

/* Static activations for the products that read `name`, which is in the i8 form.  scale > 0, finite; zero a whole number. */
int  dan_lm_set_input_scale(struct dan_lm *lm, const char *name, float scale, float zero, struct dan_err *e);

/* Scale and zero of one row w[n]: max|w| / top (127; fp8 448), or asymmetric (hi - lo) / 255 with 0 inside [lo, hi] and
 * zero = clamp(rint(-128 - lo / scale), -128, 127).  A row of zeros has scale 1.  What dan_lm_quantize_rows uses. */
void dan_row_scale(const struct dan_rows_format *f, const float *w, int64_t n, float *scale, float *zero);
/* q[n] = clamp(rint(w / scale) + zero) or w / scale as fp8, in f->to. */
void dan_row_levels(const struct dan_rows_format *f, const float *w, int64_t n, float scale, float zero, void *q);

/* NAME is a companion: ends in .scale, .zero or .input_scale of a per-row matrix in this store. */
bool dan_is_row_companion(const struct dan_store *s, const char *name);
/* NAME has a scale per row. */
bool dan_has_row_scale(const struct dan_store *s, const char *name);

#endif
