/* Pre-tokenizers: hand-written scanners for the patterns that byte-level BPE vocabularies were trained
 * with.  A pattern is data in split.c; adding one that fits `struct dan_split` is one line. */
#ifndef DAN_TEXT_SPLIT_H
#define DAN_TEXT_SPLIT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/utf8.h"

/* What the patterns distinguish: \s (White_Space), \p{L}, \p{N}, the rest (also invalid UTF-8). */
enum dan_class { DAN_CLASS_SPACE, DAN_CLASS_LETTER, DAN_CLASS_NUMBER, DAN_CLASS_OTHER };

struct dan_block;                                  /* split_fast.c */
struct dan_split {
    const char *name;                          /* "gpt2" */
    size_t (*next)(const struct dan_split *s, const char *p, size_t n);
    uint64_t (*starts)(const struct dan_split *s, const struct dan_block *b, const char *p, size_t n, unsigned *sure);   /* split_fast.c; may be NULL */
    int         max_digits;                    /* llama3 style: \p{N}{1,max} */
    bool        digits_alone;                  /* gpt2 style: every \p{N} is split off first */
    bool        marks;                         /* llama3 style: \p{M} counts as a letter */
    bool        cased, contractions;           /* o200k style: a word may be [UPPER]*[LOWER]+; 's and so on belong to the word before */
    const char *regex;                         /* as tokenizer.json's Split has it; NULL: ByteLevel's own */
    const char *aliases;                       /* GGUF's names, separated and enclosed by '|' */
    const uint8_t *classes;                    /* set by the owner */
};

/* Two bits for each code point that has a place (below).  If s is cased, two more for each
 * of what it is in a word, 1 upper, 2 lower, 3 either.  Of Unicode 16, as `tokenizers`; free with dan_free.  NULL: out of memory. */
uint8_t *dan_classes_new(const struct dan_split *s);

/* Bytes (> 0) of the pre-token that p begins; n > 0 bytes are there.  Every byte belongs to one. */
static inline size_t dan_split_next(const struct dan_split *s, const char *p, size_t n) { return s->next(s, p, n); }

/* The same for many: ends of the pre-tokens from p on, at most max >= 64 of them; returns how many (> 0 for n > 0).  The last is not
 * n when there are more. */
size_t dan_split_many(const struct dan_split *s, const char *p, size_t n, size_t *end, size_t max);

/* Where a code point's bits are, -1: it has none.  The only ones above U+40000 that matter are marks, U+E0100 to U+E01EF: they have
 * the places of the last 512, which are no characters. */
enum { DAN_CLASSED = 0x40000 };
static inline int32_t dan_class_place(int32_t cp)
{
    if ((uint32_t)cp < DAN_CLASSED - 512) return cp;
    return cp >> 9 == 0xE0000 >> 9 ? (DAN_CLASSED - 512) | (cp & 511) : -1;
}

/* Class of the character at p (n > 0) and its length; an invalid byte is one `other`. */
extern const uint8_t dan_ascii_class[128];
static inline int dan_class_at(const uint8_t *classes, const char *text, size_t n, size_t *len)
{
    const unsigned char *p = (const unsigned char *)text;
    int32_t cp;
    *len = 1;
    if (p[0] < 0x80) return dan_ascii_class[p[0]];
    /* most of three bytes: no overlong forms, no surrogates */
    if (n >= 3 && p[0] > 0xE0 && p[0] < 0xED && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80) {
        *len = 3;
        cp = (p[0] & 15) << 12 | (p[1] & 63) << 6 | (p[2] & 63);
    } else *len = (size_t)dan_utf8_next(text, n, &cp);
    int32_t at = dan_class_place(cp);
    return at < 0 ? DAN_CLASS_OTHER : classes[at >> 2] >> (2 * (at & 3)) & 3;
}
/* 's 't 'm 'd 're 've 'll; returns the length or 0.  fold: in any case, where U+017F is an s too. */
size_t dan_split_contraction(const char *p, size_t n, bool fold);
uint64_t dan_gpt2_starts(const struct dan_split *s, const struct dan_block *b, const char *p, size_t n, unsigned *sure);
uint64_t dan_llama3_starts(const struct dan_split *s, const struct dan_block *b, const char *p, size_t n, unsigned *sure);

/* By name or alias; by the pattern of a Split.  NULL: not known. */
const struct dan_split *dan_split_named(const char *name);
const struct dan_split *dan_split_of_regex(const char *regex);

#endif
