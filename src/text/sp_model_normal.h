/* SentencePiece's Normalizer, for sp_model.c. */
#ifndef DAN_TEXT_SP_MODEL_NORMAL_H
#define DAN_TEXT_SP_MODEL_NORMAL_H
#include "text/charsmap.h"
#include "text/sp_model.h"
#include "text/trie.h"

struct dan_sp_normaliser {
    struct dan_charsmap *map;
    const struct dan_trie *user;               /* pieces that stay as they are, or NULL */
    bool dummy_prefix, remove_spaces, escape_spaces, suffix, raw_bytes;
    uint8_t fast[256];                         /* ASCII bytes that stay as they are when ASCII follows */
};
int  dan_sp_normaliser_init(struct dan_sp_normaliser *m, const struct dan_sp_normal *how, const struct dan_trie *user, struct dan_err *e);
void dan_sp_normaliser_release(struct dan_sp_normaliser *m);

/* What is written: begins in `own`, goes to the heap when that is full. */
struct dan_sp_buffer {
    char   *p, *heap;
    size_t  n, cap;
    struct dan_ids *map;                       /* NULL, or of each byte of p and of its end: where it came from */
    bool    failed;
    char    own[4096];
};
void dan_sp_buffer_init(struct dan_sp_buffer *b, struct dan_ids *map);
void dan_sp_buffer_release(struct dan_sp_buffer *b);

/* The normal form of p[n] into b, which is empty. */
int  dan_sp_normalise(const struct dan_sp_normaliser *m, const char *p, size_t n, struct dan_sp_buffer *b, struct dan_err *e);

#endif
