/* "normalizer" of tokenizer.json: a chain of steps, each rewriting a text. */
#ifndef DAN_TEXT_NORMAL_H
#define DAN_TEXT_NORMAL_H
#include <jansson.h>
#include "text/flow.h"
#include "text/pattern.h"

struct dan_normal;
/* j NULL or null: *out = NULL, which changes nothing.  Refused: a type or an argument that danlu does not know, by its key. */
int  dan_normal_new(const json_t *j, const char *where, struct dan_normal **out, struct dan_err *e);
void dan_normal_free(struct dan_normal *n);            /* NULL is fine */
bool dan_normal_is_nfc(const struct dan_normal *n);    /* that and nothing else? */
bool dan_normal_keeps(const struct dan_normal *n, unsigned char c);    /* does no precompiled map touch the ASCII character c before one below U+0300? */
/* DAN_EINVAL where `to` bytes are more than a chain of steps may make of `from`: the file is not what it should be. */
int  dan_normal_check(size_t from, size_t to, struct dan_err *e);
/* *text is rewritten; spare is room of the same kind (track set alike). */
int  dan_normal_apply(const struct dan_normal *n, struct dan_pattern_room *room, struct dan_flow *text, struct dan_flow *spare,
                      struct dan_err *e);

/* What the readers of components share.  "" when absent or no string. */
const char *dan_json_name(const json_t *object, const char *key);
bool dan_json_flag(const json_t *object, const char *key, bool absent);
/* The one character of a string; -1: it is none or more than one. */
int32_t dan_json_char(const json_t *j);
/* {"String": s} or {"Regex": s} */
int  dan_json_pattern(const json_t *j, const char *where, struct dan_pattern **out, struct dan_err *e);
int  dan_no_such(const char *where, const char *key, const char *value, struct dan_err *e);    /* "WHERE: KEY 'VALUE' is not known" */

/* nfc.c: normal forms with alignment */
enum dan_form { DAN_FORM_NFD, DAN_FORM_NFKD, DAN_FORM_NFC, DAN_FORM_NFKC };
void dan_form_apply(enum dan_form form, const struct dan_flow *in, struct dan_flow *out);

#endif
