/* What charbpe.c and charbpe_new.c share. */
#ifndef DAN_TEXT_CHARBPE_IMPL_H
#define DAN_TEXT_CHARBPE_IMPL_H
#include <stdatomic.h>
#include "text/byte_pieces.h"
#include "text/charbpe.h"
#include "text/trie.h"

/* Symbols are ids of the vocabulary, and above them characters that pieces have but the vocabulary has not. */
struct dan_charbpe_pair { uint64_t key; int32_t rank, id; };   /* open addressing; key UINT64_MAX is free */

/* Where characters end in bytes that are no UTF-8: by what the first byte announces (SentencePiece, llama.cpp), by the
 * continuation bytes that follow (llama2.c), or every such byte for itself. */
enum dan_char_end { DAN_CHAR_ANNOUNCED, DAN_CHAR_CONTINUED, DAN_CHAR_UTF8 };

struct dan_charbpe {
    size_t  n;                                 /* vocabulary */
    int32_t unk;                               /* -1: none */
    bool    by_text;                           /* SentencePiece: characters that the vocabulary lacks merge too */
    bool    byte_fallback, fuse_unk, ignore_merges;
    enum dan_char_end ends;
    bool    first_alone;                       /* the first byte of a text is a character, whatever follows */
    char    prefix[32], suffix[32];
    size_t  prefix_n, suffix_n;
    struct dan_byte_pieces bytes;
    struct dan_trie vocab, user;               /* pieces that a text may match -> symbol; user-defined pieces -> id */
    bool    has_user, user_begins[256];
    int32_t ascii[128];                        /* symbols, -1: none */

    struct dan_charbpe_pair *pair;
    uint64_t mask, pair_bytes;
    uint64_t *seen, seen_mask;                 /* a bit where each pair hashes: most pairs do not merge, and the bit is in a cache */

    /* Which characters stand side by side in a piece: a text is cut where no merge can cross. */
    bool    cuts;
    uint8_t ascii_joins[128][16];              /* bit c of row a */
    uint64_t *joins, joins_mask;               /* other pairs: open addressing, UINT64_MAX is free */

    /* [n] 1: the characters of this piece, alone, merge to it, as most do; found out when it first occurs.  NULL: prefix, suffix or unused
     * pieces. */
    _Atomic uint8_t *own;

    int32_t *symbol_n;                         /* bytes of a symbol; only with unused pieces */
    uint8_t *unused;                           /* by symbol, or NULL: the model has none */
    size_t  n_symbols;
};

static inline uint64_t dan_charbpe_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

static inline const struct dan_charbpe_pair *dan_charbpe_find(const struct dan_charbpe *b, int32_t left, int32_t right)
{
    uint64_t key = dan_charbpe_key(left, right), h = dan_merge_hash(key), bit = h >> 36 & b->seen_mask, i = h & b->mask;
    if (!(b->seen[bit >> 6] >> (bit & 63) & 1)) return NULL;
    while (b->pair[i].key != key) {
        if (b->pair[i].key == UINT64_MAX) return NULL;
        i = (i + 1) & b->mask;
    }
    return &b->pair[i];
}

/* Up to 4 bytes as a number. */
static inline uint32_t dan_char_pack(const char *p, size_t n)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | (unsigned char)p[i];
    return v;
}

/* May a piece have these two characters side by side? */
static inline bool dan_charbpe_joins(const struct dan_charbpe *b, uint32_t left, uint32_t right)
{
    if ((left | right) < 128) return b->ascii_joins[left][right >> 3] >> (right & 7) & 1;
    uint64_t key = (uint64_t)left << 32 | right;
    for (uint64_t i = dan_merge_hash(key) & b->joins_mask; b->joins[i] != UINT64_MAX; i = (i + 1) & b->joins_mask)
        if (b->joins[i] == key) return true;
    return false;
}

size_t dan_char_length(enum dan_char_end ends, const char *p, size_t n);   /* n > 0; at most 4 */

#endif
