/* Texts word by word, where words begin at spaces and know nothing of each other (SentencePiece and its kin).
 *
 * A text is cut before a space that stands between two plain characters.  What makes a character plain is the caller's proof that
 * nothing reaches across such a place: the normaliser keeps it and the space as they are, no merge and no piece has both of it and the
 * space behind it, and what is done at the beginning and the end of a text is not done there.  A space and a word of plain characters is
 * looked up by its bytes, in the vocabulary and in the cache; all else between two cuts is encoded as the caller always does. */
#ifndef DAN_TEXT_SPACED_H
#define DAN_TEXT_SPACED_H
#include "text/spec.h"

struct dan_spaced_rules {
    bool plain[128];                           /* never the space */
    bool any;                                  /* the space may have anything but the end of the text behind it */
};

/* What encodes.  Ids go to the `out` that dan_spaced_encode is given. */
struct dan_spaced_model {
    void *ctx;
    /* p[n]: all that comes before the first cut (first), else what begins with the space of a cut. */
    int  (*part)(void *ctx, const char *p, size_t n, bool first, struct dan_err *e);
    /* The same for a space and up to 14 plain characters; *sure: its ids are these wherever it stands. */
    int  (*word)(void *ctx, const char *p, size_t n, bool *sure, struct dan_err *e);
    /* NULL, or: a word has these ids, which were looked up; parts are not remembered then.  False: encode it after all. */
    bool (*pass)(void *ctx, const int32_t *id, size_t n);
};

struct dan_spaced;
/* The words are pieces of s that begin with U+2581.  s may be released afterwards. */
int  dan_spaced_new(const struct dan_tok_spec *s, const struct dan_spaced_rules *rules, struct dan_spaced **out, struct dan_err *e);
void dan_spaced_free(struct dan_spaced *w);            /* NULL is fine */
/* cache may be NULL; its keys for words begin with a space, so other keys may be in it that do not. */
int  dan_spaced_encode(const struct dan_spaced *w, const struct dan_spaced_model *m, struct dan_tok_cache *cache, const char *p, size_t n,
                       struct dan_ids *out, struct dan_err *e);

#endif
