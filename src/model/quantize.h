/* Weights in a block format (q8_0): smaller and faster to read, a little less exact. */
#ifndef DAN_MODEL_QUANTIZE_H
#define DAN_MODEL_QUANTIZE_H
#include "model/lm.h"

struct dan_quantized {                         /* what happened to one tensor */
    const char *name;
    const struct dan_dtype *before, *after;    /* equal: it stayed */
    struct dan_shape shape;
    size_t bytes_before, bytes_after;
    double error;                              /* root of sum (w' - w)^2 / sum w^2 */
    const char *why;                           /* it stayed: "a vector", "its rows are no multiple of 32", ... */
};

/* The block format of that name; the error lists what there is. */
int dan_quant_format(const char *name, const struct dan_dtype **out, struct dan_err *e);
/* Every matrix that only products and embeddings read, with rows of a multiple of the format's block, is
 * replaced in lm->store; the rest stays f32.  Before lm is bound to a program.  report may be NULL; it is
 * called for each tensor in the order of the store. */
int dan_lm_quantize(struct dan_lm *lm, const struct dan_dtype *to, void (*report)(void *ctx, const struct dan_quantized *q), void *ctx,
                    struct dan_err *e);

#endif
