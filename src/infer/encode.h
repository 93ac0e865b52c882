/* Sentences -> vectors.  Rows of whole sentences are packed one after the other up to a budget and run together:
 * nothing is padded, so a batch of mixed lengths costs what its tokens cost.  A sentence's numbers do not depend on
 * who shares its run, nor on the number of threads. */
#ifndef DAN_INFER_ENCODE_H
#define DAN_INFER_ENCODE_H
#include "base/threads.h"
#include "model/encoder.h"

/* What comes out, for each sentence ([width] floats) or, at the end of the list, for each token. */
enum dan_pooling {
    DAN_POOL_MEAN,                             /* mean of the last layer over all tokens */
    DAN_POOL_CLS,                              /* the last layer at the first token */
    DAN_POOL_MAX,                              /* largest value of each component over all tokens */
    DAN_POOL_POOLER,                           /* tanh(W h + b) at the first token */
    DAN_POOL_CLASSES,                          /* logits of the classification head */
    DAN_POOL_HIDDEN,                           /* every token: the last layer */
    DAN_POOL_WORDS,                            /* every token: logits of the masked-LM head, [V]; see `mask` */
    DAN_POOL_TAGS,                             /* every token: logits of the token classification head */
};

struct dan_encode_opts {
    enum dan_pooling pooling;
    bool    normalize;                         /* divide by the Euclidean norm (vectors of zeros stay) */
    int32_t mask;                              /* WORDS: only of tokens with this id, DAN_ENCODE_MASKS of a run at most; 0: of all */
    int64_t max_rows;                          /* tokens of a run; 0: 2048.  At least the model's longest sentence */
    enum dan_prec prec;                        /* of products */
    struct dan_pool *pool;                     /* NULL: one thread; must outlive the encoder */
    bool    ref;                               /* reference kernels, to bisect */
    const char *fusion;                        /* as in struct dan_pass_opts */
    uint64_t cpu_mask;                         /* CPU features to use; 0: all */
    void (*trace)(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out);
    void *trace_ctx;                           /* as in struct dan_exec_opts; trace may be NULL */
};

enum { DAN_ENCODE_MASKS = 64 };
struct dan_encode;
/* enc must outlive it; weights are bound, not copied.  Fails when the model has no such head. */
int  dan_encode_new(struct dan_encoder *enc, const struct dan_encode_opts *o, struct dan_encode **out, struct dan_err *e);
void dan_encode_free(struct dan_encode *s);
int64_t dan_encode_width(const struct dan_encode *s);
bool    dan_encode_per_token(const struct dan_encode *s);
size_t  dan_encode_bytes(const struct dan_encode *s);            /* planned memory of a run */

/* n sentences, [CLS] and [SEP] included: sentence i is ids[start[i]] .. ids[start[i + 1] - 1]; type: token types,
 * NULL = all 0.  out: [n, width] or [start[n] - start[0], width] ([masks, width] with `mask`), in the order given.  A sentence that is empty, too
 * long for the model or has an id out of its vocabulary fails before anything runs. */
struct dan_sentences { const int32_t *ids, *type; const int64_t *start; int64_t n; };
int  dan_encode_run(struct dan_encode *s, const struct dan_sentences *x, float *out, struct dan_err *e);

#endif
