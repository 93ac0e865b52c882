/* Answers that a policy gives while it learns: prompts x samples by one session of many streams; where a stream ends, the next takes its place.
 *
 * The session reads the weights that learn where they lie: no packed copies, no caches, adapters unmerged; what a step of the optimiser changed
 * is in the next answer.  The answer number s to prompt p at step k depends on the weights and on (seed, k, p, s) alone: not on the number of
 * streams, on threads, or on what else is asked. */
#ifndef DAN_ALIGN_ROLLOUT_H
#define DAN_ALIGN_ROLLOUT_H
#include "align/prompts.h"
#include "align/reward.h"
#include "infer/generate.h"

struct dan_rollout_opts {
    struct dan_sampling sampling;              /* seed among it; stream is not used */
    int64_t max_new;                           /* tokens of an answer, the one that ends it included; >= 1 */
    const int32_t *stop;                       /* ids that end an answer; they must outlive the rollout */
    size_t  n_stop;
    int64_t streams;                           /* at a time; 0: 64 */
    int64_t context;                           /* ids of prompt and answer; 0: the model's */
    bool    fixed;                             /* the weights will not change: they may be laid out once for speed */
    enum dan_prec prec;
    struct dan_pool *pool;                     /* NULL: one thread */
    uint64_t cpu_mask;
    bool (*go_on)(void *ctx);                  /* NULL, or looked at now and then: false ends with DAN_ECANCELLED */
    void *ctx;
};
struct dan_rollout;
/* The adapters that are on now are those of its answers.  Tuners of the same model come first: they may join weights that a session has bound.  lm, tok
 * and pool must outlive it. */
int  dan_rollout_new(struct dan_lm *lm, const struct dan_tokenizer *tok, const struct dan_rollout_opts *o, struct dan_rollout **out, struct dan_err *e);
void dan_rollout_free(struct dan_rollout *r);

struct dan_said {                              /* an answer */
    const struct dan_prompt *prompt;
    int64_t sample;                            /* 0 .. samples - 1 */
    int32_t *ids;                              /* [n]: prompt, then the answer, with the id that ended it */
    int64_t n, n_prompt;
    bool    ended;                             /* by a stop id, not by the limit */
    char   *text;                              /* of the answer, without the stop id; text_n bytes and NUL */
    size_t  text_n;
};
struct dan_rollouts {
    struct dan_said *v;                        /* v[i * samples + s]: sample s of prompt i */
    size_t  n;
    int64_t samples, tokens, prompt_tokens;    /* tokens: of all answers */
    double  seconds;
};
/* n_prompts x samples answers.  Prompts must not be longer than context - max_new. */
int  dan_rollout_run(struct dan_rollout *r, const struct dan_prompt *const *prompts, int64_t n_prompts, int64_t samples, int64_t step,
                     struct dan_rollouts *out, struct dan_err *e);
void dan_rollouts_release(struct dan_rollouts *x);
/* As a reward sees it; valid as long as s. */
struct dan_answer dan_said_answer(const struct dan_said *s);
static inline int64_t dan_said_tokens(const struct dan_said *s) { return s->n - s->n_prompt; }

#endif
