/* Conversations as ids.  Each turn is encoded once and stays as it is, so what a session holds of an
 * earlier turn is a prefix of the next prompt and only new tokens are fed.
 *
 * The format of the turns is recognised from the model's chat template (the template language itself is not
 * run): ChatML, Llama 3, Phi 3.  A model without one gets "User: ... / Assistant:". */
#ifndef DAN_INFER_CHAT_H
#define DAN_INFER_CHAT_H
#include "infer/generate.h"

struct dan_chat_format {
    const char *name, *mark;                   /* a special token that its templates contain; NULL: plain */
    const char *system, *user;                 /* whole turns, % is the text */
    const char *open, *close;                  /* around the assistant's text */
    const char *end;                           /* special token that ends an answer, or NULL */
    const char *stop;                          /* string that ends one, or NULL */
};
/* known is false when the model has a template of a format that is not in the table. */
const struct dan_chat_format *dan_chat_format_of(const struct dan_tokenizer *tok, bool *known);

struct dan_chat_turn { struct dan_ids ids; };
struct dan_chat {
    const struct dan_tokenizer *tok;
    const struct dan_chat_format *format;
    const struct dan_ids *prefix;
    struct dan_ids system;                     /* empty: none */
    struct dan_chat_turn *turn;                /* user, assistant, user, ... */
    size_t n, cap;
};
void dan_chat_init(struct dan_chat *c, const struct dan_tokenizer *tok, const struct dan_chat_format *f, const struct dan_ids *prefix);
void dan_chat_release(struct dan_chat *c);
void dan_chat_clear(struct dan_chat *c);                         /* forgets the turns, keeps the system text */
int  dan_chat_system(struct dan_chat *c, const char *text, size_t n, struct dan_err *e);
int  dan_chat_user(struct dan_chat *c, const char *text, size_t n, struct dan_err *e);
/* The answer that g holds becomes a turn: its own ids, with the format's end behind it. */
int  dan_chat_answer(struct dan_chat *c, const struct dan_gen *g, struct dan_err *e);
void dan_chat_drop_last(struct dan_chat *c);                     /* an answer that failed: its question goes, too */
/* All of it, ready for an answer.  Drops the oldest turns in pairs until it has at most `most` ids; *dropped counts
 * them.  Fails when the last question alone is too long. */
int  dan_chat_prompt(struct dan_chat *c, int64_t most, struct dan_ids *out, size_t *dropped, struct dan_err *e);

#endif
