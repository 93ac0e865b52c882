/* The pieces "<0x00>" .. "<0xFF>", which stand for single bytes where a vocabulary lacks a character. */
#ifndef DAN_TEXT_BYTE_PIECES_H
#define DAN_TEXT_BYTE_PIECES_H
#include <string.h>
#include "text/spec.h"

struct dan_byte_pieces { int32_t id[256]; };   /* -1: the vocabulary lacks it */

/* The byte that a piece names, -1: it is none.  Only upper case digits, as both libraries write them. */
static inline int dan_byte_of_piece(const char *p, size_t n)
{
    static const char digit[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
    const char *hi = memchr(digit, p[3], 16), *lo = memchr(digit, p[4], 16);
    return hi && lo ? (int)(hi - digit) << 4 | (int)(lo - digit) : -1;
}

static inline void dan_byte_pieces_set(struct dan_byte_pieces *b, const struct dan_tok_spec *s)
{
    memset(b->id, -1, sizeof b->id);
    for (size_t i = 0; i < s->n; i++) {
        if (!(s->piece[i].flags & DAN_PIECE_MODEL)) continue;
        int byte = dan_byte_of_piece(s->bytes.p + s->piece[i].at, s->piece[i].n);
        if (byte >= 0) b->id[byte] = (int32_t)i;
    }
}

static inline bool dan_byte_pieces_all(const struct dan_byte_pieces *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b->id[(unsigned char)p[i]] < 0) return false;
    return true;
}

#endif
