/* A rendered chat as ids. */
#ifndef DAN_TEXT_JINJA_IDS_H
#define DAN_TEXT_JINJA_IDS_H
#include "text/jinja.h"

/* Appends the ids of r.  A special token is recognised only where all its bytes are the template's; between such places the text is encoded
 * without DAN_ENCODE_SPECIAL, so nothing in a message becomes a control token.  Without control text in the messages the ids are those of the
 * whole text with DAN_ENCODE_SPECIAL, but for two kinds of tokenizer, where a piece does not see its neighbours: special tokens with
 * lstrip, rstrip or single_word, and Metaspace with prepend_scheme "first".  Flags: DAN_ENCODE_UNK or 0. */
int dan_jinja_ids(const struct dan_tokenizer *t, const struct dan_jinja_out *r, int flags, struct dan_ids *out, struct dan_err *e);

#endif
