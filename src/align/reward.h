/* Rewards that need no model: one const struct in one file of src/align/reward/ each.  A reward is named in text,
 *   number | exact | regex:PATTERN | think | length:LO-HI | repetition:N | lexicon:FILE | command:PROGRAM ARGS
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
};

struct dan_reward_kind {
    const char *name, *arg, *doc;              /* arg: what follows the colon, for help; NULL: nothing */
    int  (*open)(const char *arg, void **state, struct dan_err *e);        /* NULL: no state */
    int  (*score)(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e);
    void (*close)(void *state);
};
extern const struct dan_reward_kind *const dan_reward_kinds[];    /* generated; NULL-terminated */

struct dan_reward;
int  dan_reward_open(const char *spec, struct dan_reward **out, struct dan_err *e);
void dan_reward_close(struct dan_reward *r);   /* NULL is fine */
const char *dan_reward_name(const struct dan_reward *r);          /* as it was given, up to the colon */
int  dan_reward_score(struct dan_reward *r, const struct dan_answer *a, size_t n, double *out, struct dan_err *e);

/* The last number in a text ("... so 1,234.50 dollars" -> 1234.5); false when it has none. */
bool dan_last_number(const char *p, size_t n, double *out);
/* The row's reference answer as text: "answer", "solution", "target" or "output"; NULL: none. */
const char *dan_reference_answer(const json_t *row);

#endif
