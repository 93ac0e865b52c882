/* "post_processor" of tokenizer.json: control tokens around one text or two, and the white space that offsets leave out. */
#ifndef DAN_TEXT_POST_H
#define DAN_TEXT_POST_H
#include "text/normal.h"

struct dan_post;
/* j NULL or null: *out = NULL.  Ids are checked against n_vocab. */
int  dan_post_new(const json_t *j, int32_t n_vocab, const char *where, struct dan_post **out, struct dan_err *e);
void dan_post_free(struct dan_post *p);                /* NULL is fine */
/* a, and b if not NULL, with what belongs around them; types may be NULL. */
void dan_post_join(const struct dan_post *p, const struct dan_ids *a, const struct dan_ids *b, struct dan_ids *out, struct dan_ids *types);
/* Takes white space out of the spans of ids [from, ids->n), as trim_offsets says. */
void dan_post_trim(const struct dan_post *p, const struct dan_tokenizer *t, const char *text, const struct dan_ids *ids, size_t from,
                   struct dan_spans *span, size_t span_from);

#endif
