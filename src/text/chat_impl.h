/* What the files of chat_template.h share.  Not for other rooms. */
#ifndef DAN_TEXT_CHAT_IMPL_H
#define DAN_TEXT_CHAT_IMPL_H
#include "text/chat_template.h"

struct dan_chat_builtin_template { const char *name, *needs[4], *text; };      /* needs: special tokens by which it is chosen, up to NULL; none: it is not */
const struct dan_chat_builtin_template *dan_chat_builtin_find(const char *name);       /* NULL: none */

/* The first `n` messages, with or without the generation prompt, as text. */
int dan_chat_text_of_first(const struct dan_chat_template *t, const struct dan_chat_input *in, size_t n, bool open, struct dan_jinja_out *out,
                           struct dan_err *e);

#endif
