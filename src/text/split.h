/* Pre-tokenizers: hand-written scanners for the patterns that byte-level BPE vocabularies were trained
 * with.  A pattern is data in split.c; adding one that fits `struct dan_split` is one line. */
#ifndef DAN_TEXT_SPLIT_H
#define DAN_TEXT_SPLIT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the patterns distinguish: \s (White_Space), \p{L}, \p{N}, the rest (also invalid UTF-8). */
enum dan_class { DAN_CLASS_SPACE, DAN_CLASS_LETTER, DAN_CLASS_NUMBER, DAN_CLASS_OTHER };

/* Two bits per code point below U+40000; above are no letters, numbers or spaces in any Unicode version.
 * From utf8proc, 2 ms; free with dan_free.  NULL: out of memory. */
uint8_t *dan_classes_new(void);

struct dan_split {
    const char *name;                          /* "gpt2" */
    size_t (*next)(const struct dan_split *s, const char *p, size_t n);
    int         max_digits;                    /* llama3 style: \p{N}{1,max} */
    bool        digits_alone;                  /* gpt2 style: every \p{N} is split off first */
    const char *regex;                         /* as tokenizer.json's Split has it; NULL: ByteLevel's own */
    const char *aliases;                       /* GGUF's names, separated and enclosed by '|' */
    const uint8_t *classes;                    /* set by the owner */
};

/* Bytes (> 0) of the pre-token that p begins; n > 0 bytes are there.  Every byte belongs to one. */
static inline size_t dan_split_next(const struct dan_split *s, const char *p, size_t n) { return s->next(s, p, n); }

/* By name or alias; by the pattern of a Split.  NULL: not known. */
const struct dan_split *dan_split_named(const char *name);
const struct dan_split *dan_split_of_regex(const char *regex);

#endif
