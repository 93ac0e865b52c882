/* Rows of fine-tuning data, whatever their format, as dialogues in OpenAI's form.
 *
 *   .jsonl   one object a line          .json    an array of objects (or one object a line)
 *
 * Formats, told by their fields:
 *   text                                           plain text
 *   messages [+ tools]                             OpenAI; per message "weight": 0 or 1, or "train": false or true
 *   conversations [+ system, tools]                ShareGPT: from human, gpt, system, observation, function_call
 *   instruction [+ input, history, system] + output or response             Alpaca;  + instances [{input, output}]  self-instruct
 *   question + answer                              GSM8K
 *   prompt + completion                            TRL; both strings or both lists of messages
 *   prompt                                         a prompt alone: for policies, which answer it themselves
 *   chosen + rejected, with prompt, messages, conversations, instruction or without (then the common beginning is the prompt;
 *     also Anthropic's "\n\nHuman: ... \n\nAssistant: ..." strings) [+ margin]               preferences
 *   label or kto_tag beside an answer              one answer, desirable or not (KTO)
 *   prompt + completions + ranks                   several answers, rank 1 is best
 *
 * A bad row is an error with file, line, field and what was expected; the walk can go on after it. */
#ifndef DAN_DATA_EXAMPLES_H
#define DAN_DATA_EXAMPLES_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum dan_example_kind {
    DAN_EXAMPLE_TEXT,                          /* text */
    DAN_EXAMPLE_CHAT,                          /* messages, at least one of the assistant */
    DAN_EXAMPLE_PROMPT,                        /* messages; the next turn is the assistant's */
    DAN_EXAMPLE_PAIR,                          /* the same with answers: chosen, rejected */
    DAN_EXAMPLE_LABELLED,                      /* the same with one answer */
    DAN_EXAMPLE_RANKED,                        /* the same with two or more answers */
    DAN_N_EXAMPLE_KINDS
};
const char *dan_example_kind_name(enum dan_example_kind k);       /* "preference pair", ... */

struct dan_example {
    enum dan_example_kind kind;
    json_t *messages;                          /* [{"role", "content", ...}]: the dialogue, or the prompt */
    json_t *answers;                           /* [[message, ...], ...]: what may follow the prompt; NULL: none */
    json_t *tools;                             /* NULL: none */
    const char *text;                          /* DAN_EXAMPLE_TEXT */
    size_t  text_bytes;
    const json_t *ranks;                       /* DAN_EXAMPLE_RANKED: an integer for each answer */
    bool    desirable;                         /* DAN_EXAMPLE_LABELLED */
    double  margin;                            /* DAN_EXAMPLE_PAIR; 0 where the row has none */
    const json_t *row;                         /* all its fields, for reward functions */
    const char *file;
    int64_t line;                              /* from 1; in an array: its element */
};

struct dan_examples;
/* Opens nothing yet but finds every file: files, or directories with .jsonl and .json below them. */
int  dan_examples_open(const char *const *paths, size_t n, struct dan_examples **out, struct dan_err *e);
void dan_examples_free(struct dan_examples *x);
void dan_examples_rewind(struct dan_examples *x);
/* The next example, valid until the next call; *more = false at the end.  An error with *more = true is that of one row: ex->file and ex->line
 * name it, and the next call goes on behind it. */
int  dan_examples_next(struct dan_examples *x, struct dan_example *ex, bool *more, struct dan_err *e);

/* One row: fills ex (which then owns messages, answers, tools) except file and line; release it by dan_example_release.  The error
 * names the field, not the line. */
int  dan_example_from(const json_t *row, struct dan_example *ex, struct dan_err *e);
void dan_example_release(struct dan_example *ex);

#endif
