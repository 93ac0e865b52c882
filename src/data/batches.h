/* Token shards -> the input arrays of a step.
 *
 * Training.  Epoch e cuts every shard into windows of T + 1 tokens, stride T, from an offset in [0, T)
 * drawn from (seed, e, shard), and visits them in a shuffled order (a keyed permutation: six Feistel rounds
 * of Philox with cycle walking, so no array of indices is held).  Sequence k of step s is the window at
 * s * batch + k of that endless list: a pure function of (seed, s, k).  So a resumed run sees the
 * same data, and micro-batches of any size cut the same step.
 *
 * Documents inside a window do not see each other: each has its own [start, stop) and pos from 0, and the row
 * before a document's first token has no target (eos, when the tokenizer has one, is the
 * last target of its document).  A document cut by a window begins at pos 0 in each part.
 *
 * Evaluation.  Windows of T rows, stride T, from token 0 of each shard; the last may be shorter.  Every token is
 * a target exactly once, except the first of each document.  A window's first row sees no
 * earlier context (the protocol of nanoGPT and of non-overlapping perplexity). */
#ifndef DAN_DATA_BATCHES_H
#define DAN_DATA_BATCHES_H
#include "data/shards.h"

enum dan_layout {
    DAN_PACKED,                                /* sequence after sequence: row = k * T + t */
    DAN_TIME_MAJOR,                            /* row = t * lanes + k */
};

/* Arrays of the caller, [rows]; NULL ones are not filled (weights needs targets). */
struct dan_batch {
    int32_t *tokens, *targets;                 /* targets: the next token, -1: none */
    int32_t *pos, *start, *stop, *self;        /* start, stop, self: row numbers of this batch; packed only */
    int32_t *reset;                            /* 1 where a sequence or document begins */
    float   *weights;                          /* 1 / targets of the whole step (evaluation: of this batch); 0 without a target */
    int64_t  rows, targets_n;                  /* results: rows filled; rows with a target */
};

struct dan_batches;
/* The shards must outlive it.  Fails when no shard holds context + 1 tokens. */
int  dan_batches_new(const struct dan_shards *s, int64_t context, int64_t batch, uint64_t seed,
                     struct dan_batches **out, struct dan_err *e);
void dan_batches_free(struct dan_batches *b);
/* Sequences [first, first + count) of step `step`: count * context rows.  first + count <= batch. */
void dan_batches_fill(struct dan_batches *b, int64_t step, int64_t first, int64_t count, enum dan_layout layout, struct dan_batch *out);
int64_t dan_batches_targets(struct dan_batches *b, int64_t step);          /* of the whole step */
double  dan_batches_epoch(struct dan_batches *b, int64_t step);            /* epochs done before this step: 1.25 */
int64_t dan_batches_windows(struct dan_batches *b, int64_t epoch);         /* windows of an epoch */
/* Where sequence k of a step lies: for tests, and to show a user which text a spike came from. */
void dan_batches_where(struct dan_batches *b, int64_t step, int64_t k, size_t *shard, int64_t *token);

/* Evaluation batches of up to `batch` windows. */
int64_t dan_eval_batches(const struct dan_shards *s, int64_t context, int64_t batch);    /* how many */
/* Batch i, pure.  Packed: as many rows as there are tokens to predict.  Time major: always
 * context * batch rows; what is missing has token 0, target -1, weight 0, reset 1. */
void dan_eval_fill(const struct dan_shards *s, int64_t context, int64_t batch, int64_t i, enum dan_layout layout, struct dan_batch *out);

#endif
