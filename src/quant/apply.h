/* Rounding the matrices of a language model: which ones, into what, by which method, in which order. */
#ifndef DAN_QUANT_APPLY_H
#define DAN_QUANT_APPLY_H
#include "quant/equalise.h"
#include "quant/imatrix.h"
#include "quant/round.h"

/* Whose outputs a product's inputs are made of when a method looks at them. */
enum dan_apply_order {
    DAN_ORDER_LAYERS,                          /* blocks before it are rounded already; one run over the text a block */
    DAN_ORDER_PRODUCTS,                        /* all products before it are ("true sequential"): some four runs a block */
    DAN_ORDER_ONCE,                            /* all inputs from the float model: one run.  imatrix always */
};

struct dan_applied {                           /* what happened to one tensor */
    const char *name, *before, *after;         /* formats; equal: it stayed */
    struct dan_shape shape;
    size_t bytes_before, bytes_after;          /* companions (scales) included */
    struct dan_round_report round;
    const char *why;                           /* it stayed */
    char note[112];                            /* the format or method is another one than asked for, and why; else "" */
};

struct dan_apply_opts {
    const struct dan_quant_form *form;         /* of every matrix */
    const struct dan_quant_form *(*form_of)(void *ctx, const char *name);    /* or of this one; NULL result: it stays; may be NULL */
    const char *(*keep)(void *ctx, const char *name);          /* a reason to leave it as it is, or NULL; may be NULL */
    const struct dan_round_method *method;     /* NULL: nearest */
    const struct dan_sequences *text;          /* for methods that look at inputs; else NULL */
    const struct dan_imatrix *imatrix;         /* for method imatrix, instead of text; else NULL */
    enum dan_apply_order order;
    struct dan_round_opts round;
    void (*report)(void *ctx, const struct dan_applied *a);    /* of every tensor, in the order of the store, at the end; may be NULL */
    bool (*progress)(void *ctx, int64_t done, int64_t total);  /* matrices; false cancels with DAN_ECANCELLED; may be NULL */
    void *ctx;
};
/* Matrices that only products and embeddings read become what the options say; the rest stays.  Where rows do not divide into blocks a
 * format's fallback is taken (dan_dtype_for_rows); an embedding table, which has no form with a scale per row, becomes q8_0; what no product
 * reads (an untied table) is rounded by mse.  FAKE forms leave f32 tensors.  Before lm is bound to a program.  Fails on weights that are no finite
 * numbers, naming the tensor, and on a model that is quantised already. */
int dan_lm_apply(struct dan_lm *lm, const struct dan_apply_opts *o, struct dan_err *e);

/* For AWQ: how a row would come out of nearest rounding to f, which must outlive the trial. */
struct dan_trial dan_form_trial(const struct dan_quant_form *f);

/* A model with the same tensors, sharing their memory: to change some of them. */
int dan_lm_share(const struct dan_lm *from, struct dan_lm *to, struct dan_err *e);

#endif
