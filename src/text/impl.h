/* What the files of this room share.  Not for other rooms. */
#ifndef DAN_TEXT_IMPL_H
#define DAN_TEXT_IMPL_H
#include "base/map.h"
#include "text/split.h"
#include "text/tokenizer.h"

#define DAN_END_OF_TEXT "<|endoftext|>"
enum { DAN_NO_RANK = -1 };

/* A merge: rank orders them (low first), id is the token that comes out. */
struct dan_merge { uint64_t key; int32_t rank, id; };
static inline uint64_t dan_pair_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

struct dan_tok_kind {
    const char *name;
    /* p[from, to) without special tokens; offsets in messages count from p.  cache may be NULL. */
    int (*encode)(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                  struct dan_ids *out, struct dan_err *e);
};
extern const struct dan_tok_kind dan_tok_bpe, dan_tok_char, dan_tok_bytes, dan_tok_wordpiece;

struct dan_added { int32_t id; const char *p; size_t n; bool special, lstrip, rstrip; };   /* strip: takes the white space beside it */

struct dan_tokenizer {
    const struct dan_tok_kind *kind;
    int32_t n_vocab, bos, eos, unk;
    uint64_t hash;

    char   *bytes;                             /* all tokens, one after the other */
    size_t *start;                             /* [n_vocab + 1] */
    struct dan_map *by_bytes;                  /* ordinary tokens -> id */

    struct dan_added *added;                   /* by id */
    struct dan_added *by_length;               /* the same, longest first: what the matcher tries */
    size_t  n_added;
    bool    added_begins[256], ordinary_added; /* first bytes of all; is one not special? */

    /* bpe, bytes */
    struct dan_split split;
    bool    nfc, ignore_merges;
    int32_t byte_id[256];                      /* -1: the vocabulary lacks it */
    struct dan_merge *merge;                   /* open addressing, key UINT64_MAX is free */
    uint64_t merge_mask;
    int32_t *byte_pair_rank;                   /* [256][256] ranks of pairs of single bytes */
    int32_t *merge_pair;                       /* [n_merges][2], as learnt, for saving */
    int32_t *merge_id;                         /* [n_merges] what comes out */
    size_t  n_merges;

    /* char: page[cp >> 8][cp & 255], ids or -1 */
    int32_t *page[0x1100];

    struct dan_wordpiece *wordpiece;           /* wordpiece */
    struct dan_ids before, after;              /* what post_processor puts around a text */

    char *json, *config, *chat_template;       /* as read, or NULL */
    size_t json_n, config_n;
    bool   template_file;                      /* the template came from chat_template.jinja */
};

/* --- build.c.  The order: new, tokens in any order, finish; then bpe's merges. */
struct dan_tokenizer *dan_tok_new(const struct dan_tok_kind *kind);
/* What a builder is given per id. */
/* Raw bytes; added as in parts, + 4 lstrip, + 8 rstrip; p NULL: a hole. */
struct dan_tok_entry { const char *p; size_t n; uint8_t added; };
int  dan_tok_set_vocab(struct dan_tokenizer *t, const struct dan_tok_entry *entry, size_t n, struct dan_err *e);
/* pair: [n][2] ids, in order of rank; taken over.  `where` names the source in messages. */
int  dan_tok_set_merges(struct dan_tokenizer *t, int32_t *pair, size_t n, const char *where, struct dan_err *e);
/* The token that a text in the byte-level alphabet names, -1: none.  raw holds n bytes. */
int32_t dan_tok_id_of(const struct dan_tokenizer *t, const char *text, size_t n, char *raw);
int  dan_tok_set_chars(struct dan_tokenizer *t, struct dan_err *e);
/* Hash, and defaults for bos and eos. */
void dan_tok_finish(struct dan_tokenizer *t);
/* Default or given special tokens of a training run. */
size_t dan_tok_n_special(const struct dan_tok_train_opts *o);
const char *dan_tok_special(const struct dan_tok_train_opts *o, size_t i);
int  dan_tok_check_special(const struct dan_tok_train_opts *o, struct dan_err *e);

/* --- alphabet.c: GPT-2's printable names for bytes */
int32_t dan_byte_to_char(unsigned char b);
int     dan_char_to_byte(int32_t cp);                                   /* -1: not in the alphabet */
void    dan_alphabet_put(struct dan_str *out, const char *p, size_t n); /* bytes -> UTF-8 text */
/* UTF-8 text -> bytes; a text with a character outside the alphabet stands for itself.  out holds n bytes. */
size_t  dan_alphabet_get(const char *text, size_t n, char *out);
/* The bytes in the order of their names: rank 0 is '!'. */
void    dan_alphabet_order(unsigned char order[256]);

/* --- match.c: the first added token at or after `from`, longest first.  NULL: none. */
const struct dan_added *dan_added_find(const struct dan_tokenizer *t, const char *p, size_t n, size_t from, int flags, size_t *at);

/* NULL: the pair does not merge.  The multiplier is 2^64 / golden ratio: neighbouring ids spread. */
static inline uint64_t dan_merge_hash(uint64_t key) { return (key ^ key >> 29) * 0x9E3779B97F4A7C15u >> 20; }
static inline const struct dan_merge *dan_merge_find(const struct dan_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t key = dan_pair_key(left, right), i = dan_merge_hash(key) & t->merge_mask;
    while (t->merge[i].key != key) {
        if (t->merge[i].key == UINT64_MAX) return NULL;
        i = (i + 1) & t->merge_mask;
    }
    return &t->merge[i];
}
/* --- bpe_merge.c: the ids of one pre-token, n > 0 bytes. */
int dan_bpe_merge(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *out, struct dan_err *e);

/* --- encode.c: added tokens, then the kind's own; cache may be NULL */
int dan_encode_all(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                   struct dan_err *e);

/* --- wordpiece.c: what its switches add to a hash; w may be NULL */
struct dan_wordpiece;
uint64_t dan_wordpiece_hash(const struct dan_wordpiece *w, uint64_t h);

/* --- cache.c */
struct dan_tok_word { uint64_t lo, hi; int32_t id[3]; int32_t n; };     /* 32 bytes, two in a cache line */
/* The slot of a word of 1..15 bytes and its key. */
struct dan_tok_word *dan_cache_slot(struct dan_tok_cache *c, const char *p, size_t n, uint64_t *lo, uint64_t *hi);

#endif
