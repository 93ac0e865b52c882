/* Between the files that read rows: examples.h is for everybody else. */
#ifndef DAN_DATA_EXAMPLE_IMPL_H
#define DAN_DATA_EXAMPLE_IMPL_H
#include "data/examples.h"

/* A list of messages in OpenAI's form from OpenAI's (role, content) or ShareGPT's (from, value) list, or from one such object;
 * `field` names it in errors.  New reference in *out. */
int dan_dialogue_of(const json_t *list, const char *field, json_t **out, struct dan_err *e);
/* The same from a string "\n\nHuman: ...\n\nAssistant: ..."; *out = NULL where it is none. */
int dan_dialogue_of_hh(const json_t *text, const char *field, json_t **out, struct dan_err *e);
int dan_message_append(json_t *list, const char *role, const char *content, size_t n, struct dan_err *e);
const char *dan_message_role(const json_t *message);
int dan_example_memory(struct dan_err *e);     /* fails: out of memory */

#endif
