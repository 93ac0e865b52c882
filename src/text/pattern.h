/* Regular expressions of tokenizer files.  They are written for Oniguruma (its Ruby syntax), which `tokenizers` runs; here
 * they are translated and run by PCRE2 with its JIT.  A pattern is attacker data: every match has limits, and a text that would take too
 * long is an error, never a hang. */
#ifndef DAN_TEXT_PATTERN_H
#define DAN_TEXT_PATTERN_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "base/str.h"

struct dan_pattern;
/* Oniguruma's syntax, or, literal, the bytes themselves.  `where` names the key in messages.  What cannot be translated or
 * compiled is refused by name. */
int  dan_pattern_new(const char *p, size_t n, bool literal, const char *where, struct dan_pattern **out, struct dan_err *e);
void dan_pattern_free(struct dan_pattern *x);          /* NULL is fine */

/* The bytes of a literal; NULL: it is no literal. */
const char *dan_pattern_literal(const struct dan_pattern *x, size_t *n);

/* A text cut at matches: all parts in order, empty matches included. */
struct dan_part { size_t from, to; bool match; };
struct dan_parts { struct dan_part *v; size_t n, cap; bool failed; };
void dan_parts_push(struct dan_parts *s, size_t from, size_t to, bool match);
void dan_parts_release(struct dan_parts *s);

/* What matching needs, one per thread; {0} is ready. */
struct dan_pattern_room { void *data, *context, *stack; struct dan_str shadow; double deadline; size_t calls; };
void dan_pattern_room_release(struct dan_pattern_room *r);
/* Appends the parts of n bytes.  Bytes that are no UTF-8 count as characters that are neither letters, numbers nor white space. */
int  dan_pattern_cut(const struct dan_pattern *x, struct dan_pattern_room *room, const char *p, size_t n, struct dan_parts *out,
                     struct dan_err *e);

/* --- pattern_syntax.c: Oniguruma to PCRE2, appended.  `what` says what is not supported. */
int  dan_pattern_translate(const char *p, size_t n, struct dan_str *out, const char **what);

#endif
