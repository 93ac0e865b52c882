/* What the files about BERT's tokenizer share. */
#ifndef DAN_TEXT_WORDPIECE_H
#define DAN_TEXT_WORDPIECE_H
#include "text/spec.h"

struct dan_piece { uint64_t lo, hi; int32_t id; };     /* key: up to 15 bytes; byte 15 = length, + 128 when it continues a word */

struct dan_wordpiece {
    bool    clean, chinese, strip, lower;      /* BertNormalizer's switches */
    char    prefix[16];                        /* "##" */
    size_t  prefix_n;
    int32_t unk;
    size_t  max_chars, longest;                /* of a word, in characters; of a token, in bytes */
    struct dan_piece *piece;                   /* open addressing, id -1 is free */
    uint64_t mask;
    struct dan_map *long_piece;                /* tokens of 16 bytes and more: the key's byte 0 says if it continues a word */
    uint32_t *action;                          /* [65536] what normalisation does with a code point: bert_normal.c */
    unsigned char ascii[128], ascii_low[128];  /* the same for ASCII: enum dan_bert_kind, and the character */
};
void dan_wordpiece_free(struct dan_wordpiece *w);      /* NULL is fine */
/* The pieces of the model that text may become; switches, prefix and limits are set. */
int  dan_wordpiece_set_vocab(struct dan_wordpiece *w, const struct dan_tok_spec *s, struct dan_err *e);

/* --- bert_normal.c: code points */
enum dan_bert_kind {
    DAN_BERT_WORD,                             /* part of a word */
    DAN_BERT_DROP,                             /* removed */
    DAN_BERT_SEAL,                             /* removed, and marks before it do not change places with marks after it */
    DAN_BERT_SPACE,
    DAN_BERT_ALONE,                            /* a word of its own */
    DAN_BERT_SLOW,                             /* more than one character comes out, or a mark: dan_bert_expand */
};
/* kind | code point << 3 */
static inline uint32_t dan_bert_kind(uint32_t action) { return action & 7; }
static inline int32_t  dan_bert_point(uint32_t action) { return (int32_t)(action >> 3); }
int  dan_bert_prepare(struct dan_wordpiece *w, struct dan_err *e);                 /* fills the action tables */
uint32_t dan_bert_action(const struct dan_wordpiece *w, int32_t cp);               /* computes one */
enum { DAN_BERT_MOST = 24 };
/* The characters that come out of one: kind, code point, combining class (0: starts anew).  *alone: the whole is a word
 * of its own.  Returns how many, at most DAN_BERT_MOST. */
struct dan_bert_char { int32_t cp; uint8_t kind, mark; };
int  dan_bert_expand(const struct dan_wordpiece *w, int32_t cp, struct dan_bert_char out[DAN_BERT_MOST], bool *alone);

#endif
