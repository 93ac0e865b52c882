/* Chat templates: the part of Jinja2 that Hugging Face's templates use, in the environment that `transformers` gives them
 * (trim_blocks, lstrip_blocks, loop controls, {% generation %}, its own tojson).  Sandboxed: a template reads what it is given and
 * makes text; it has no files and no clock, and its steps, depth, memory and output are bounded.
 *
 * Every byte of the text is marked: 0, it stands in the template or in a trusted variable; DAN_JINJA_USER, it came out of the conversation;
 * more, out of an assistant's message.  Marks go through concatenation, filters, slices and tojson; numbers have none. */
#ifndef DAN_TEXT_JINJA_H
#define DAN_TEXT_JINJA_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/str.h"
#include "text/tokenizer.h"

enum { DAN_JINJA_USER = 1, DAN_JINJA_ASSISTANT = 2 };
/* The mark of item i of "messages" when its role is "assistant" or "model": neighbours differ. */
static inline uint8_t dan_jinja_assistant_mark(size_t i) { return (uint8_t)(DAN_JINJA_ASSISTANT + i % 254); }

struct dan_jinja_opts {
    int64_t max_steps;                         /* 0: 20 million */
    size_t  max_memory, max_output;            /* bytes; 0: 256 MiB, 64 MiB */
    bool    has_now;                           /* without it strftime_now is not defined */
    int64_t now;                               /* seconds since 1970; strftime_now writes it in UTC */
};
struct dan_jinja_out {
    struct dan_str text, mark;                 /* mark.p[i], for text.p[i] */
    struct dan_spans generation;               /* bytes of text inside {% generation %} */
};
void dan_jinja_out_release(struct dan_jinja_out *out);

/* Renders a template of n bytes of UTF-8.  trusted and user are objects whose members are the template's variables; either may be NULL, a
 * name in user hides one in trusted.  A member "role" of an item of user's "messages" is trusted when it is one of the usual roles, because
 * templates make control tokens of it.  Fails with the template's line: DAN_EFORMAT for a template that is wrong or
 * raises, DAN_EUNSUPPORTED for what is not in the subset, DAN_EINVAL for a limit.  o may be NULL.  *out must be {0}; release it in any case. */
int dan_jinja_render(const char *text, size_t n, const json_t *trusted, const json_t *user, const struct dan_jinja_opts *o,
                     struct dan_jinja_out *out, struct dan_err *e);

#endif
