/* How much each matrix minds being quantised: one group at a time, the rest in float, KL of the next token's distribution. */
#ifndef DAN_QUANT_SENSITIVITY_H
#define DAN_QUANT_SENSITIVITY_H
#include "quant/apply.h"
#include "quant/compare.h"

enum { DAN_GROUP_MOST = 8 };
/* Matrices that share one format: q, k, v read the same input; so do gate and up.  One matrix where none shares. */
struct dan_sensitive {
    const char *name[DAN_GROUP_MOST];          /* in the model's store */
    int     n;
    size_t  bytes_float;
    size_t *bytes;                             /* [n_forms] */
    double *kl;                                /* [n_forms] mean KL a token */
};
struct dan_sensitivity {
    struct dan_sensitive *v;
    size_t  n;
    int     n_forms;
    size_t  bytes_rest;                        /* of tensors in no group: vectors */
    struct dan_products products;
};
struct dan_sensitivity_opts {
    const struct dan_quant_form *forms;
    int     n_forms;
    const struct dan_round_method *method;     /* NULL: nearest.  One that looks at inputs needs text */
    const struct dan_sequences *text;
    const char *(*keep)(void *ctx, const char *name);          /* as in struct dan_apply_opts */
    struct dan_pool *pool;
    uint64_t cpu_mask;
    bool  (*progress)(void *ctx, int64_t done, int64_t total); /* groups x forms */
    void   *ctx;
};
/* b: of lm, in float.  lm stays as it is. */
int  dan_sensitivity_new(struct dan_lm *lm, const struct dan_baseline *b, const struct dan_sensitivity_opts *o, struct dan_sensitivity *out,
                         struct dan_err *e);
void dan_sensitivity_release(struct dan_sensitivity *s);

#endif
