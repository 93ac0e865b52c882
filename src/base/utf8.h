#ifndef DAN_BASE_UTF8_H
#define DAN_BASE_UTF8_H
#include <stddef.h>
#include <stdint.h>

/* Decodes one code point at p (n > 0 bytes available).  Returns its length in bytes (1..4) and
 * sets *cp, or returns 1 and sets *cp = -1 - byte for a byte that starts no valid sequence
 * (overlong forms, surrogates and values above U+10FFFF are invalid, as in RFC 3629). */
int dan_utf8_next(const char *p, size_t n, int32_t *cp);
int dan_utf8_put(int32_t cp, char out[4]);                     /* returns the length */
/* Offset of the first invalid byte, or n when all is valid. */
size_t dan_utf8_check(const char *p, size_t n);
/* How many trailing bytes are the beginning of a sequence that is not complete yet (0..3). */
size_t dan_utf8_partial(const char *p, size_t n);

#endif
