/* Conversations as ids, through a chat template (text/chat_template.h).  The whole conversation is rendered for every answer, so the ids are
 * those that training saw; what a session holds of an earlier turn is found again by comparing ids. */
#ifndef DAN_INFER_CHAT_H
#define DAN_INFER_CHAT_H
#include "infer/generate.h"
#include "text/chat_template.h"

struct dan_chat {
    const struct dan_chat_template *by;
    json_t *messages;                          /* [system] user, assistant, user, ... */
    json_t *tools;                             /* what the template is told of them; NULL: none.  Owned */
    bool    system;                            /* the first one is the system's */
    int64_t now;                               /* what strftime_now says, for the whole conversation; seconds since 1970 */
};
int  dan_chat_init(struct dan_chat *c, const struct dan_chat_template *by, int64_t now, struct dan_err *e);
void dan_chat_release(struct dan_chat *c);
void dan_chat_clear(struct dan_chat *c);                         /* forgets the turns, keeps the system text */
/* Texts are UTF-8; bytes that are none become U+FFFD. */
int  dan_chat_system(struct dan_chat *c, const char *text, size_t n, struct dan_err *e);
int  dan_chat_user(struct dan_chat *c, const char *text, size_t n, struct dan_err *e);
int  dan_chat_answer(struct dan_chat *c, const char *text, size_t n, struct dan_err *e);
void dan_chat_drop_last(struct dan_chat *c);                     /* an answer that failed: its question goes, too */
/* Appends all of it, ready for an answer.  Drops the oldest turns in pairs until it has at most `most` ids; *dropped counts the messages.
 * Fails when the last question alone is too long, and when the template refuses. */
int  dan_chat_prompt(struct dan_chat *c, int64_t most, struct dan_ids *out, size_t *dropped, struct dan_err *e);

#endif
