/* A text on its way through normalisers and pre-tokenizers.  Every byte may know which bytes of the original text it came
 * from; what a step inserts, drops or replaces is aligned as in Hugging Face's NormalizedString, so that offsets agree. */
#ifndef DAN_TEXT_FLOW_H
#define DAN_TEXT_FLOW_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/str.h"
#include "text/tokenizer.h"

struct dan_flow {
    struct dan_str s;                          /* any bytes; those that are no UTF-8 pass as characters of their own */
    struct dan_span *at;                       /* [s.n] when track */
    size_t at_cap, base;                       /* base: where in the original this text begins */
    bool track, failed;
};
void dan_flow_release(struct dan_flow *f);
void dan_flow_clear(struct dan_flow *f);       /* empties, keeps the memory, track and base */
/* n bytes of an original text that begin at byte `from` of it. */
void dan_flow_set(struct dan_flow *f, const char *p, size_t n, size_t from);
/* Appends n bytes that came from `where`. */
void dan_flow_put(struct dan_flow *f, const char *p, size_t n, struct dan_span where);
/* Appends bytes [from, to) of another text. */
void dan_flow_copy(struct dan_flow *f, const struct dan_flow *of, size_t from, size_t to);
int  dan_flow_check(const struct dan_flow *f, struct dan_err *e);      /* out of memory on the way? */
/* Where bytes [from, to) came from. */
struct dan_span dan_flow_where(const struct dan_flow *f, size_t from, size_t to);

/* Rewriting bytes [at, to) of `in` character by character into `out`: change 0 replaces one character, 1 inserts, -k replaces one and
 * drops the k after it. */
struct dan_change { const struct dan_flow *in; struct dan_flow *out; size_t at, to; };
void dan_change_put(struct dan_change *c, int32_t cp, int change);
void dan_change_skip(struct dan_change *c, size_t chars);      /* drops characters */
void dan_change_keep(struct dan_change *c, size_t bytes);      /* copies as they are */

/* The character at p: its length; an invalid byte b is cp = -1 - b.  And back. */
size_t dan_flow_char(const char *p, size_t n, int32_t *cp);
size_t dan_flow_encode(int32_t cp, char out[4]);

#endif
