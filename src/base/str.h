/* Growing byte string.  {0} is a valid empty string.  p is NUL-terminated once non-NULL.
 * Out of memory sets `failed` and further appends do nothing: check once at the end. */
#ifndef DAN_BASE_STR_H
#define DAN_BASE_STR_H
#include <stdbool.h>
#include <stddef.h>

struct dan_str { char *p; size_t n, cap; bool failed; };

void dan_str_append(struct dan_str *s, const void *bytes, size_t n);
void dan_str_puts(struct dan_str *s, const char *text);
void dan_str_putc(struct dan_str *s, char c);
void dan_str_printf(struct dan_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void dan_str_clear(struct dan_str *s);        /* empties, keeps the memory */
void dan_str_release(struct dan_str *s);
const char *dan_str_c(const struct dan_str *s);   /* "" when empty */

/* Levenshtein distance with transpositions, for "did you mean". */
int dan_str_distance(const char *a, const char *b);
bool dan_str_starts(const char *s, const char *prefix);
bool dan_str_ends(const char *s, const char *suffix);

#endif
