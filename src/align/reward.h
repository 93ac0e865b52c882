/* Rewards: one const struct in one file of src/align/reward/ each.  A reward is named in text,
 *   number | exact | regex:PATTERN | think | length:LO-HI | repetition:N | lexicon:FILE | command:PROGRAM ARGS | model:DIR
 * and scores answers.  NaN: it does not apply to this row (no reference answer, say). */
#ifndef DAN_ALIGN_REWARD_H
#define DAN_ALIGN_REWARD_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct dan_answer {
    const char *text;                          /* NUL-terminated; without the end-of-turn token */
    size_t  n;                                 /* bytes */
    int64_t tokens;
    bool    ended;                             /* by its end-of-turn token, not by the limit of tokens */
    const char *prompt;                        /* its last message */
    const json_t *row;                         /* the fields of its row: reference answers */
    const json_t *messages;                    /* the dialogue that it answers; NULL: prompt is the beginning of a text, without a template */
};

/* What rewards with a model run on. */
struct dan_pool;
struct dan_reward_env { struct dan_pool *pool; uint64_t cpu_mask; };      /* pool NULL: one thread; cpu_mask 0: all that the CPU has */

struct dan_reward_kind {
    const char *name, *arg, *doc;              /* arg: what follows the colon, for help; NULL: nothing */
    bool free_text;                            /* arg is anything to its end: no weight can follow it (rewards.h) */
    int  (*open)(const char *arg, void **state, struct dan_err *e);        /* NULL: no state */
    int  (*open_in)(const char *arg, const struct dan_reward_env *env, void **state, struct dan_err *e);     /* in its place where not NULL */
    int  (*score)(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e);
    void (*close)(void *state);
};
extern const struct dan_reward_kind *const dan_reward_kinds[];    /* generated; NULL-terminated */
const struct dan_reward_kind *dan_reward_find(const char *spec);  /* that which stands before the first colon; NULL: none */

struct dan_reward;
int  dan_reward_open(const char *spec, struct dan_reward **out, struct dan_err *e);
/* The same on a pool of the caller's, which must outlive it. */
int  dan_reward_open_in(const char *spec, const struct dan_reward_env *env, struct dan_reward **out, struct dan_err *e);
/* A reward of the caller's own: its score (and close, or NULL) in *kind, which must outlive it, is called with `state`.  open is not called. */
int  dan_reward_of(const struct dan_reward_kind *kind, void *state, struct dan_reward **out, struct dan_err *e);
void dan_reward_close(struct dan_reward *r);   /* NULL is fine */
const char *dan_reward_name(const struct dan_reward *r);          /* as it was given, up to the colon */
int  dan_reward_score(struct dan_reward *r, const struct dan_answer *a, size_t n, double *out, struct dan_err *e);

/* The last number in a text ("... so 1,234.50 dollars" -> 1234.5); false when it has none. */
bool dan_last_number(const char *p, size_t n, double *out);
/* The row's reference answer as text: "answer", "solution", "target" or "output"; NULL: none. */
const char *dan_reference_answer(const json_t *row);

#endif
