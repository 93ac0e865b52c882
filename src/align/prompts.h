/* Prompts that a policy answers itself: rows of data as ids, with all their fields for whoever scores the answers.
 *
 *   text                                    the beginning of a text, as it is: the model's own beginning before it, no template
 *   prompt, messages, conversations, ...    a dialogue by the chat template, with the generation prompt behind it; an answer that the row has
 *                                           (completion, a last turn of the assistant, chosen ...) is left out, its field stays in `row`
 * Nothing is cut: a prompt that is too long is skipped, named and counted. */
#ifndef DAN_ALIGN_PROMPTS_H
#define DAN_ALIGN_PROMPTS_H
#include "data/examples.h"
#include "text/chat_template.h"

struct dan_prompt {
    int32_t *ids;
    int64_t n;                                 /* >= 1 */
    json_t *row;                               /* the row's fields */
    json_t *messages;                          /* the dialogue without the answer; NULL: a text */
    char   *last;                              /* the last message (of a text: the text): struct dan_answer.prompt */
    int64_t index;                             /* among all prompts read, from 0: what a rollout's random numbers depend on */
    const char *file;
    int64_t line;
};

enum dan_prompt_skip { DAN_PROMPT_BAD_ROW, DAN_PROMPT_TEMPLATE, DAN_PROMPT_TOO_LONG, DAN_PROMPT_EMPTY, DAN_N_PROMPT_SKIPS };
const char *dan_prompt_skip_name(enum dan_prompt_skip s);

struct dan_prompts_opts {
    const struct dan_tokenizer *tok;
    const struct dan_chat_template *chat;
    int64_t longest;                           /* ids of a prompt: the context without room for the answer */
    bool raw;                                  /* no template: the last message is the beginning of a text */
    bool has_now;                              /* as in struct dan_chat_input */
    int64_t now;
};
struct dan_prompts {
    struct dan_prompt *v;
    size_t  n, cap;
    int64_t ids, longest, rows;                /* of all prompts; of the longest; rows: read */
    int64_t skipped[DAN_N_PROMPT_SKIPS];
    struct dan_str told;                       /* a line for each of the first few that were skipped */
    char  **file;
    size_t  n_files;
};
/* Fails when no prompt is left, and (unless raw) when the template renders no turn of the assistant. */
int  dan_prompts_read(const char *const *paths, size_t n, const struct dan_prompts_opts *o, struct dan_prompts *out, struct dan_err *e);
void dan_prompts_release(struct dan_prompts *p);
/* Moves every k-th prompt, about `share` and at most `most` (0: no limit), to a second list; indices stay. */
int  dan_prompts_hold_out(struct dan_prompts *from, double share, size_t most, struct dan_prompts *held, struct dan_err *e);

#endif
