/* "pre_tokenizer" of tokenizer.json: what is cut apart before the model sees it. */
#ifndef DAN_TEXT_PRETOK_H
#define DAN_TEXT_PRETOK_H
#include "text/normal.h"

struct dan_pretok;
/* j NULL or null: *out = NULL, which cuts nothing.  raw: a ByteLevel step at the end leaves bytes as they are (the model's
 * pieces are bytes then). */
int  dan_pretok_new(const json_t *j, const char *where, bool raw, struct dan_pretok **out, struct dan_err *e);
void dan_pretok_free(struct dan_pretok *p);            /* NULL is fine */
bool dan_pretok_tracks(const struct dan_pretok *p);    /* must the text know its alignment (Metaspace, "first")? */

struct dan_cutting {
    struct dan_flow text, spare;               /* track set alike */
    struct dan_spans piece, other;             /* piece: ranges of text, in order */
    struct dan_parts parts;
    struct dan_pattern_room room;
};
void dan_cutting_release(struct dan_cutting *c);
/* c->piece holds where to begin (one range: all of the text); afterwards what the model gets.  c->text may be another. */
int  dan_pretok_apply(const struct dan_pretok *p, struct dan_cutting *c, struct dan_err *e);

#endif
