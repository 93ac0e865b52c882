/* What flows into the products of a model: texts run through it, and every product x W^T over weights shows its rows x.  Calibration,
 * Hessians, importance matrices and the search for scales are made of this.
 *
 * The model runs as it is stored, without fusion, so that names are those of the store.  A row's bits depend on its sequence alone:
 * not on the batch, not on the threads. */
#ifndef DAN_QUANT_OBSERVE_H
#define DAN_QUANT_OBSERVE_H
#include "base/threads.h"
#include "model/lm.h"

struct dan_product {                           /* y = x W^T */
    const char *name;                          /* of W [n,k] in the store: "blk.0.attn_q.weight" */
    int64_t n, k;
    int32_t layer;                             /* -1: outside the blocks */
    int32_t input;                             /* products with one number read the same x; 0, 1, ... in the order of the graph */
    bool    first;                             /* of those that read this x */
    bool    head;                              /* makes the logits */
};

/* The products of a model in the order of the graph; names live as long as the list.  Embeddings are none; a tied table is one as the
 * head.  DAN_EUNSUPPORTED for recurrent families: theirs lie inside a loop. */
struct dan_products { struct dan_product *v; size_t n; int32_t n_inputs; struct dan_graph *graph; };
int  dan_products_new(const struct dan_lm *lm, struct dan_products *out, struct dan_err *e);
void dan_products_release(struct dan_products *p);

/* Sequences of token ids: ids[start[i] .. start[i + 1]), i < n; they do not see each other. */
struct dan_sequences { const int32_t *ids; const int64_t *start; int64_t n; };

struct dan_observe_opts {
    struct dan_pool *pool;                     /* NULL: one thread */
    int64_t rows;                              /* of one run, but at least the longest sequence; 0: 1024 */
    size_t  bytes;                             /* of rows that are kept for `see` at a time; 0: 512 MiB.  Where one batch needs more, the
                                                * model runs several times over it */
    bool  (*wants)(void *ctx, const struct dan_product *p);      /* NULL: all */
    /* x [n,k], contiguous, valid during the call; outside of any parallel region, so it may use the pool.  Batch after batch, and in
     * a batch in the order of the graph.  A status other than 0 ends it all.  NULL: only what *out says is wanted. */
    int   (*see)(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e);
    bool  (*progress)(void *ctx, int64_t done, int64_t total);   /* rows; false cancels with DAN_ECANCELLED; NULL: none */
    void   *ctx;
};
struct dan_observed { int64_t rows, targets; double nats; };      /* nats: summed cross entropy of the targets (every next token) */

/* Weights are bound while it runs only: the store may change afterwards.  out may be NULL.  Fails when a sequence is empty or longer than the
 * model's context, or an id is not in its vocabulary. */
int dan_observe(const struct dan_lm *lm, const struct dan_sequences *text, const struct dan_observe_opts *o, struct dan_observed *out,
                struct dan_err *e);

#endif
