/* Weights in a smaller storage format, each rounded to the nearest level: the plain way, which needs nothing but the weights.
 * Better ways, and per-row formats by name: quant/apply.h. */
#ifndef DAN_MODEL_QUANTIZE_H
#define DAN_MODEL_QUANTIZE_H
#include "base/threads.h"
#include "model/lm.h"

struct dan_quantized {                         /* what happened to one tensor */
    const char *name;
    const struct dan_dtype *before, *after;    /* equal: it stayed */
    struct dan_shape shape;
    size_t bytes_before, bytes_after;
    double error;                              /* root of sum (w' - w)^2 / sum w^2 */
    const char *why;                           /* it stayed: "a vector", "quantised already", ... */
    char note[96];                             /* it is in another format than asked for: "rows of 48 are no multiple of 256"; else "" */
};

/* The writable block format of that name; the error lists what there is. */
int dan_quant_format(const char *name, const struct dan_dtype **out, struct dan_err *e);
/* Why tensor t, param `name` of graph g (of dan_lm_graph with logits), cannot be stored in blocks or rows at all; NULL: it can. */
const char *dan_quant_why_not(const struct dan_graph *g, const char *name, const struct dan_tensor *t);
/* "row R of NAME holds a weight that is no finite number ...": the error of the block formats and of GGUF. */
int dan_quant_no_number(int64_t row, const char *name, struct dan_err *e);
/* A matrix that is in some quantised format already; NULL: none. */
const char *dan_quant_already(const struct dan_lm *lm);

struct dan_quantize_opts {
    struct dan_pool *pool;                     /* rows are shared out; NULL: one thread.  No bit depends on it */
    const char *(*keep)(void *ctx, const char *name);          /* a reason to leave a tensor as it is, or NULL; may be NULL */
    void (*report)(void *ctx, const struct dan_quantized *q);  /* for each tensor in the order of the store; may be NULL */
    void *ctx;
};
/* Every matrix that only products and embeddings read is replaced in lm->store.  Rows that are no multiple of the block get
 * dan_dtype_for_rows, or stay when there is none.  The rest stays as it is.  Before lm is bound to a program.  A weight that is no finite
 * number is an error that names the tensor. */
int dan_lm_quantize_with(struct dan_lm *lm, const struct dan_dtype *to, const struct dan_quantize_opts *o, struct dan_err *e);
int dan_lm_quantize(struct dan_lm *lm, const struct dan_dtype *to, void (*report)(void *ctx, const struct dan_quantized *q), void *ctx,
                    struct dan_err *e);

#endif
