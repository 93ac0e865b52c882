/* Characters as Hugging Face `tokenizers` sees them: which classes they are in and what they decompose to, whatever Unicode
 * version this machine has. */
#ifndef DAN_TEXT_UNICODE_H
#define DAN_TEXT_UNICODE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dan_range { int32_t first, last, value; };

enum dan_uni {
    DAN_UNI_CONTROL,                           /* BertNormalizer's clean_text removes it */
    DAN_UNI_SPACE,                             /* White_Space */
    DAN_UNI_PUNCT,                             /* ASCII punctuation and P* */
    DAN_UNI_CHINESE,
    DAN_UNI_ACCENT,                            /* Mn: BertNormalizer's strip_accents removes it */
    DAN_UNI_MARK,                              /* M*: StripAccents removes it */
    DAN_UNI_NUMERIC,                           /* N* */
    DAN_UNI_WORD,                              /* \w: Alphabetic, M*, Nd, Pc, joiners */
    DAN_UNI_LETTER,                            /* L*, N* of Unicode 16 */
    DAN_UNI_NUMBER,
};
/* A class as ascending ranges. */
const struct dan_range *dan_uni_ranges(enum dan_uni what, size_t *n);
bool dan_uni_is(enum dan_uni what, int32_t cp);        /* false for cp < 0, bytes that are no character */
/* Canonical decomposition, compat: compatibility decomposition too.  Returns how many characters, at most n (18 are enough). */
enum { DAN_UNI_MOST = 24 };
int  dan_uni_decompose(int32_t cp, bool compat, int32_t *out, int n);
int  dan_uni_class(int32_t cp);                        /* canonical combining class; 0: not moved */
int  dan_uni_mark(int32_t cp);                         /* its class if BertNormalizer keeps the mark, else 0 */
int32_t dan_uni_compose(int32_t a, int32_t b);         /* -1: they do not */
int  dan_uni_lower(int32_t cp, int32_t out[2]);        /* how many characters: 1, or 2 for U+0130 */
int  dan_uni_script(int32_t cp);                       /* 0: parts nothing */

#endif
