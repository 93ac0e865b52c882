/* Decoding with state: one compiled program, `slots` sequences, a KV cache (or, for recurrent families, one
 * hidden state a slot).  Prefill and decode run the same program with more or fewer rows bound, and kernels
 * promise that a row's bits do not depend on the other rows.  So the logits of a token depend on its sequence
 * alone: not on how the prompt was cut into chunks, not on who shares the batch, not on the threads. */
#ifndef DAN_INFER_SESSION_H
#define DAN_INFER_SESSION_H
#include "base/threads.h"
#include "model/lm.h"

struct dan_session_opts {
    int64_t slots;                             /* sequences at the same time; 0: 1 */
    int64_t context;                           /* tokens a sequence may hold; 0: the model's context */
    int64_t max_rows;                          /* rows of one run: prefill goes in chunks of so many; 0: 512 */
    int64_t max_select;                        /* logits rows of one run; 0: slots */
    enum dan_prec prec;                        /* of matmuls over f32 weights */
    const char *fusion;                        /* as in struct dan_pass_opts; NULL or "on": all, but large weights are not joined */
    const char *kv_type;                       /* how keys and values are kept: a name that dan_kv_type_of takes; NULL: "auto" */
    bool adapters;                             /* the adapters that are on (model/lora.h) can be weighed for every slot: dan_session_adapter */
    struct dan_pool *pool;                     /* NULL: one thread; must outlive the session */
    bool ref;                                  /* reference kernels, to bisect */
    bool live;                                 /* weights change: they are not joined, and dan_session_refresh says when they have changed */
    uint64_t cpu_mask;                         /* CPU features to use; 0: all */
    void (*trace)(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out);
    void *trace_ctx;                           /* as in struct dan_exec_opts; trace may be NULL */
};

/* "f32", "bf16", "q8" (8 bits and a scale for every token and head); "auto" leaves *t as it is. */
int  dan_kv_type_of(const char *name, const struct dan_dtype **t, struct dan_err *e);

struct dan_session;
/* lm must outlive the session; its weights are bound, not copied.  Attention families refuse a context beyond
 * the model's (positions it never saw); recurrent ones take any. */
int  dan_session_new(struct dan_lm *lm, const struct dan_session_opts *o, struct dan_session **out, struct dan_err *e);
void dan_session_free(struct dan_session *s);
/* Of a session with `live`: the weights are other ones than at the last refresh, or than when it was made.  What the slots hold came from the old ones. */
void dan_session_refresh(struct dan_session *s);

/* Tokens to append to the sequence in a slot. */
struct dan_feed {
    int32_t slot;
    const int32_t *tokens;
    int64_t n;
    int64_t n_logits;                          /* logits wanted for the last so many of these tokens, <= n */
    float  *logits;                            /* [n_logits, V], the caller's */
};
/* Appends every feed (at most one a slot), in as many runs as it takes.  A sequence that would not fit in the
 * context fails with DAN_EINVAL before anything is done: look at dan_session_room first. */
int  dan_session_feed(struct dan_session *s, const struct dan_feed *feeds, int64_t n_feeds, struct dan_err *e);

/* The weight of an adapter for the tokens that a slot is fed from now on: 0 off, 1 as it was trained; NULL: of all.  A session that was made with
 * `adapters` begins with 1 for those that are on.  What the slot holds was computed with other weights: reset it, unless that is wanted.  A row depends
 * on its own slot's weights alone: requests with different adapters share a run, and each has the bits that it would have alone.  Adapters that were off
 * when the session was made, or came later, are refused by name. */
int  dan_session_adapter(struct dan_session *s, int32_t slot, const char *name, double weight, struct dan_err *e);

void    dan_session_reset(struct dan_session *s, int32_t slot);          /* empties the slot */
/* Forgets all but the first `length` tokens of a slot; false when the family cannot (recurrent: only 0). */
bool    dan_session_truncate(struct dan_session *s, int32_t slot, int64_t length);
int64_t dan_session_length(const struct dan_session *s, int32_t slot);   /* tokens the slot holds */
int64_t dan_session_room(const struct dan_session *s, int32_t slot);     /* how many more fit */
int64_t dan_session_context(const struct dan_session *s);
int64_t dan_session_slots(const struct dan_session *s);
int64_t dan_session_vocab(const struct dan_session *s);
const struct dan_lm *dan_session_lm(const struct dan_session *s);

/* Bytes: KV cache or hidden states; planned memory; weights laid out for the kernels. */
struct dan_session_memory { size_t state, activations, packed; };
void dan_session_memory(const struct dan_session *s, struct dan_session_memory *out);
/* Bytes that a step reads which appends one token to each of `sequences` sequences of `length`: the weights once, what is kept of every sequence (a
 * sliding window counts whole). */
double dan_session_step_bytes(const struct dan_session *s, int64_t sequences, int64_t length);

#endif
