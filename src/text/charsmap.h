/* SentencePiece's precompiled_charsmap: a table from byte strings to what they are normalised to (NFKC, case folding,
 * a user's rules), stored as
 *
 *   uint32 bytes of the trie | the trie: units of 32 bits, a double array (Darts-clone) | NUL-terminated strings
 *
 * all little-endian; a value of the trie is an offset in the strings.  The blob comes from a file: every index is checked. */
#ifndef DAN_TEXT_CHARSMAP_H
#define DAN_TEXT_CHARSMAP_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct dan_charsmap;
/* n = 0 is a map that changes nothing.  The blob is copied. */
int  dan_charsmap_new(const void *blob, size_t n, struct dan_charsmap **out, struct dan_err *e);
void dan_charsmap_free(struct dan_charsmap *m);        /* NULL is fine */
/* How many bytes at p (n there are) the longest entry replaces, 0: none; *to, *to_n: by what (perhaps nothing), valid as
 * long as m.  m may be NULL. */
size_t dan_charsmap_longest(const struct dan_charsmap *m, const char *p, size_t n, const char **to, size_t *to_n);
/* [256] not 0 for an ASCII byte that no entry touches when ASCII or nothing follows.  m is not NULL. */
const unsigned char *dan_charsmap_plain(const struct dan_charsmap *m);
/* Has an entry, or may one have, the ASCII byte c behind its first byte? */
bool dan_charsmap_has_inner(const struct dan_charsmap *m, unsigned char c);

/* The normaliser "Precompiled" of `tokenizers` walks differently: by grapheme clusters; a cluster of less than 6 bytes is
 * replaced as a whole by the *shortest* entry that begins it, others are looked up character by character, again the
 * shortest.  Parts come in order: */
struct dan_charsmap_walk {
    const struct dan_charsmap *m;
    const char *p;                             /* UTF-8; invalid bytes stay as they are */
    size_t n;
    size_t at, cluster;                        /* 0 at first */
};
struct dan_charsmap_part { size_t n; const char *to; size_t to_n; bool same; };    /* n bytes become to[to_n]; same: unchanged, any number of characters */
bool dan_charsmap_next(struct dan_charsmap_walk *w, struct dan_charsmap_part *part);   /* false: the end */

#endif
