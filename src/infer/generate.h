/* Generating text: sequences that grow token by token, alone or many in one session.
 *
 * A dan_gen is one text in the making: ids, decoded text, stop strings, why it ended.  dan_gen_run drives a
 * group of them to their ends; who schedules by himself (a server) uses begin, next and ready.
 *
 * Text that could be the beginning of a stop string, and bytes that are the beginning of a UTF-8 sequence,
 * are held back until it is clear what they are. */
#ifndef DAN_INFER_GENERATE_H
#define DAN_INFER_GENERATE_H
#include "infer/sampler.h"
#include "infer/session.h"
#include "text/tokenizer.h"

struct dan_gen_opts {
    struct dan_sampling sampling;
    int64_t max_tokens;                        /* new tokens; 0: as many as the context takes */
    const char *const *stop;                   /* stop strings; not part of the text */
    size_t  n_stop;
    const int32_t *eos;                        /* ids that end the text; part of ids, not of the text */
    size_t  n_eos;
    bool    ignore_eos;                        /* goes on after eos */
};

enum dan_finish { DAN_GEN_RUNS, DAN_GEN_EOS, DAN_GEN_STOP, DAN_GEN_LENGTH, DAN_GEN_CANCELLED };
const char *dan_finish_name(enum dan_finish f);                  /* "stop" (eos, stop string), "length", "cancelled"; NULL while it runs */

struct dan_gen {
    const struct dan_gen_opts *o;
    struct dan_sampling sampling;              /* o's, with a stream of its own */
    int32_t slot;
    struct dan_ids ids;                        /* prompt, then what was generated */
    size_t  n_prompt;
    struct dan_str text;                       /* what was generated, without a stop string */
    size_t  shown;                             /* bytes of it that were given out; kept by dan_gen_run */
    struct dan_detok detok;
    enum dan_finish finish;
};

/* The prompt is copied; it must not be empty.  stream: number of the sequence, for the sampler. */
int  dan_gen_begin(struct dan_gen *g, const struct dan_gen_opts *o, const struct dan_tokenizer *tok, int32_t slot, uint64_t stream,
                   const int32_t *prompt, size_t n, struct dan_err *e);
void dan_gen_release(struct dan_gen *g);
/* Takes the next token: draws it from logits [V], or is told. */
int  dan_gen_draw(struct dan_gen *g, struct dan_draw *d, const float *logits, struct dan_err *e);
int  dan_gen_next(struct dan_gen *g, int32_t token, struct dan_err *e);
size_t dan_gen_ready(const struct dan_gen *g);                   /* bytes of text that are final */
static inline size_t dan_gen_new_tokens(const struct dan_gen *g) { return g->ids.n - g->n_prompt; }
/* How many of the new tokens make up the first `bytes` bytes of the text, whole tokens only. */
size_t dan_gen_tokens_of(const struct dan_gen *g, size_t bytes);

struct dan_gen_hooks {                         /* both may be NULL */
    void (*text)(void *ctx, const struct dan_gen *g, const char *bytes, size_t n);   /* as it becomes final */
    bool (*go_on)(void *ctx);                  /* false: the texts that still run end as cancelled */
    void  *ctx;
};
struct dan_gen_times {                         /* added to */
    int64_t prompt_tokens, new_tokens, decode_tokens;    /* decode_tokens: new ones that no prompt's run gave */
    double  prompt_seconds, decode_seconds;
};
/* Runs all of g[0..n) to their ends.  What a slot holds already is taken to be the beginning of g's ids (a chat's
 * cache).  A prompt that does not fit in the context is an error; a full context ends a text with length. */
int dan_gen_run(struct dan_session *s, struct dan_gen *const *g, int64_t n, const struct dan_gen_hooks *hooks, struct dan_gen_times *times,
                struct dan_err *e);

/* What the model wants before every text: the special tokens that tokenizer.json's post_processor puts in
 * front (or, when tokenizer_config.json has add_bos_token, bos).  None is common. */
int  dan_prompt_prefix(const char *model_dir, const struct dan_tokenizer *tok, struct dan_ids *out, struct dan_err *e);
/* Prefix and text; an empty text without a prefix becomes eos, the boundary between documents. */
int dan_prompt_encode(const struct dan_tokenizer *tok, const struct dan_ids *prefix, const char *text, size_t n, struct dan_ids *out,
                      struct dan_err *e);

#endif
