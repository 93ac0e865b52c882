/* A model against another of the same vocabulary on text: how far its distribution of the next token is from the first one's. */
#ifndef DAN_QUANT_COMPARE_H
#define DAN_QUANT_COMPARE_H
#include "quant/observe.h"

/* Logits of the reference on a text, kept: many models may be compared with one. */
struct dan_baseline;
struct dan_compare_opts { struct dan_pool *pool; uint64_t cpu_mask; bool (*progress)(void *ctx, int64_t done, int64_t total); void *ctx; };
/* text: windows of at most the context, at least two tokens each.  Takes V floats a target. */
int  dan_baseline_new(struct dan_lm *lm, const struct dan_sequences *text, const struct dan_compare_opts *o, struct dan_baseline **out, struct dan_err *e);
void dan_baseline_free(struct dan_baseline *b);

/* Over all targets (every token of a window but its first).  Errors are one standard error, from sums over windows (tokens of one
 * window are not independent); 0 with fewer than two windows. */
struct dan_comparison {
    int64_t tokens, windows;
    double loss, loss_error;                   /* nats a token; perplexity = exp(loss) */
    double base, base_error;                   /* the same of the reference */
    double more, more_error;                   /* loss - base, window by window */
    double kl, kl_error, kl_p99, kl_max;       /* KL(reference || model) a token */
    double same_top;                           /* share of tokens whose likeliest successor is the same */
};
int  dan_compare(const struct dan_baseline *b, struct dan_lm *lm, const struct dan_compare_opts *o, struct dan_comparison *out, struct dan_err *e);

#endif
