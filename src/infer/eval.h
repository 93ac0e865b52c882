/* Loss of a language model on text: mean cross entropy over the tokens to predict, in nats.
 *
 *   perplexity = e^loss,   bits per byte = sum of losses / ln 2 / bytes of text
 *
 * Two protocols.  Windows: `context` rows each, one after the other, as in training's validation; a window's first
 * rows see little before them.  Sliding: each window keeps `context - stride` tokens of the one before as
 * context and counts only its last `stride` targets, within documents; slower by context / stride, and lower. */
#ifndef DAN_INFER_EVAL_H
#define DAN_INFER_EVAL_H
#include "base/threads.h"
#include "data/batches.h"
#include "model/lm.h"

struct dan_eval_opts {
    int64_t context;                           /* rows of a window; 0: the model's, 2048 at most */
    int64_t batch;                             /* windows of a run; 0: about 2048 rows */
    int64_t stride;                            /* > 0: sliding; attention families only */
    enum dan_prec prec;
    const char *fusion;                        /* as in struct dan_pass_opts */
    const char *kv_type;                       /* keys and values go through a cache in this format (infer/session.h); NULL, "auto": none */
    struct dan_pool *pool;
    uint64_t cpu_mask;                         /* CPU features to use; 0: all */
    bool ref;                                  /* reference kernels, to bisect */
    void (*trace)(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out);
    void *trace_ctx;                           /* as in struct dan_exec_opts; trace may be NULL */
    bool (*progress)(void *ctx, int64_t done, int64_t total);    /* tokens; false cancels with DAN_ECANCELLED; may be NULL */
    void *progress_ctx;
};
struct dan_eval_result {
    double  nats;                              /* sum over all targets */
    double  loss, perplexity;
    int64_t tokens, context;                   /* targets; rows of a window */
    char    protocol[160];
};
int dan_eval(struct dan_lm *lm, const struct dan_shards *text, const struct dan_eval_opts *o, struct dan_eval_result *out,
             struct dan_err *e);

#endif
