/* What the files of this room share.  Not for other rooms. */
#ifndef DAN_TEXT_IMPL_H
#define DAN_TEXT_IMPL_H
#include "base/map.h"
#include <jansson.h>
#include "text/split.h"
#include "text/tokenizer.h"
#include "text/word_key.h"

#define DAN_END_OF_TEXT "<|endoftext|>"
#define DAN_MORE_TEMPLATES "additional_chat_templates"           /* a folder beside tokenizer.json */
enum { DAN_NO_RANK = -1 };

/* A merge: rank orders them (low first), id is the token that comes out. */
struct dan_merge { uint64_t key; int32_t rank, id; };
static inline uint64_t dan_pair_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

struct dan_tok_kind {
    const char *name;
    /* p[from, to) without special tokens; offsets in messages count from p.  cache may be NULL.  NULL: the pipeline does it all. */
    int (*encode)(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                  struct dan_ids *out, struct dan_err *e);
};
extern const struct dan_tok_kind dan_tok_bpe, dan_tok_char, dan_tok_bytes, dan_tok_wordpiece, dan_tok_sp_bpe, dan_tok_sp_unigram;

/* strip: takes the white space beside it; single_word: not inside a word; normalized: found in the normalised text. */
struct dan_added {
    int32_t id;
    const char *p;                             /* its text */
    size_t n;
    bool special, lstrip, rstrip, single_word, normalized;
    char *shown;                               /* its normal form, which decoding gives, if it is another; or NULL */
};

/* --- match.c: added tokens in a text, the leftmost, the longest of those. */
struct dan_added_set {
    struct dan_map *index;                     /* text -> place in dan_tokenizer.added; NULL: empty */
    size_t *length, n_lengths;                 /* of their texts, longest first */
    bool   begins[256], ordinary;              /* first bytes of all; is one not special? */
    int    only;                               /* the one byte that all begin with; -1: several */
};
int  dan_added_put(struct dan_added_set *s, const char *p, size_t n, int64_t value, bool special);     /* -1: out of memory */
void dan_added_release(struct dan_added_set *s);
struct dan_added_walk {
    const struct dan_tokenizer *t;
    const struct dan_added_set *set;
    const char *p;
    size_t n, at, from;                        /* at: where to look on; from: what is before has been dealt with */
    int flags;
    const uint8_t *mark;                       /* [n] as in dan_tokenizer_encode_marked, or NULL */
};
/* The next token and the bytes [*from, *to) that it takes, white space included; NULL: none. */
const struct dan_added *dan_added_next(struct dan_added_walk *w, size_t *from, size_t *to);

struct dan_tokenizer {
    const struct dan_tok_kind *kind;
    int32_t n_vocab, bos, eos, unk, pad;
    uint64_t hash;

    char   *bytes;                             /* all tokens, one after the other */
    size_t *start;                             /* [n_vocab + 1] */
    struct dan_map *by_bytes;                  /* ordinary tokens -> id */

    struct dan_added *added;                   /* by id */
    size_t  n_added;
    struct dan_added_set raw, normal;          /* found before normalisation, after it */

    /* bpe, bytes */
    struct dan_split split;
    bool    nfc, ignore_merges, bytes_are_text;        /* bytes_are_text: pieces are the bytes that they stand for */
    int32_t byte_id[256];                      /* -1: the vocabulary lacks it */
    struct dan_merge *merge;                   /* open addressing, key UINT64_MAX is free */
    uint64_t merge_mask;
    uint64_t *merge_seen;                      /* 8 bits for each merge, set where it hashes: most pairs do not merge, and a bit tells */
    uint64_t merge_seen_mask;
    int32_t *byte_pair_rank;                   /* [256][256] ranks of pairs of single bytes */
    int32_t *merge_pair;                       /* [n_merges][2], as learnt, for saving */
    int32_t *merge_id;                         /* [n_merges] what comes out */
    size_t  n_merges;
    struct dan_known_words *word_table;        /* bpe_words.c */

    /* char: page[cp >> 8][cp & 255], ids or -1 */
    int32_t *page[0x1100];

    struct dan_wordpiece *wordpiece;           /* wordpiece */
    struct dan_sp *sp;                         /* SentencePiece */
    struct dan_pipeline *pipe;                 /* pipeline.c: what has no faster way, and offsets of all */
    struct dan_decoder *decoder;               /* NULL: bytes one after the other */
    struct dan_post *post;                     /* NULL: nothing around a text */
    struct dan_ids before, after;              /* what post_processor puts around a text */
    struct dan_tok_spec *spec;                 /* what it was made of, unless json says it; NULL: made by training */
    const char *assumed;                       /* what its file does not say and was taken for granted; or NULL */

    char *json, *config, *chat_template;       /* as read, or NULL */
    size_t json_n, config_n;
    bool   template_file;                      /* the template came from chat_template.jinja */
    json_t *more_templates;                    /* {name: text} of additional_chat_templates/NAME.jinja; NULL: none */
};

/* --- build.c.  The order: new, tokens in any order, finish; then bpe's merges. */
struct dan_tokenizer *dan_tok_new(const struct dan_tok_kind *kind);
/* What a builder is given per id. */
/* Raw bytes; added as in parts, + 4 lstrip, + 8 rstrip, + 16 single word, + 32 normalised, + 64 the model has it too, + 128 the model never
 * gives it; p NULL: a hole. */
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

/* NULL: the pair does not merge.  The multiplier is 2^64 / golden ratio: neighbouring ids spread. */
static inline uint64_t dan_merge_hash(uint64_t key) { return (key ^ key >> 29) * 0x9E3779B97F4A7C15u; }
static inline const struct dan_merge *dan_merge_find(const struct dan_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t key = dan_pair_key(left, right), h = dan_merge_hash(key), bit = h >> 36 & t->merge_seen_mask;
    if (!(t->merge_seen[bit >> 6] >> (bit & 63) & 1)) return NULL;
    uint64_t i = h >> 20 & t->merge_mask;
    while (t->merge[i].key != key) {
        if (t->merge[i].key == UINT64_MAX) return NULL;
        i = (i + 1) & t->merge_mask;
    }
    return &t->merge[i];
}
/* --- merges.c: room for n merges whose ranks are below n_ranks; then each.  A pair that occurs twice keeps its last rank, as in Hugging
 * Face's map.  -1: out of memory. */
int  dan_merges_new(struct dan_tokenizer *t, size_t n, size_t n_ranks);
void dan_merges_put(struct dan_tokenizer *t, struct dan_merge m);
/* This key comes soon: its place on the way to the processor. */
static inline void dan_merges_expect(const struct dan_tokenizer *t, uint64_t key)
{
    uint64_t h = dan_merge_hash(key);
    __builtin_prefetch(&t->merge[h >> 20 & t->merge_mask], 1);
    __builtin_prefetch(&t->merge_seen[(h >> 36 & t->merge_seen_mask) >> 6], 1);
}
/* --- ranks.c: the merges of rank BPE, from the vocabulary that is set; merge_pair is their list as Hugging Face's converter makes it. */
int  dan_tok_set_ranks(struct dan_tokenizer *t, struct dan_err *e);
/* --- bpe_merge.c: the ids of one pre-token, n > 0 bytes. */
int dan_bpe_merge(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *out, struct dan_err *e);

const struct dan_added *dan_tok_added_of(const struct dan_tokenizer *t, int32_t id);       /* tokenizer.c; NULL: it is none */

/* --- encode.c: added tokens, then the kind's own; cache may be NULL */
int dan_encode_all(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                   struct dan_err *e);

/* --- wordpiece.c: what its switches add to a hash; w may be NULL */
struct dan_wordpiece;
uint64_t dan_wordpiece_hash(const struct dan_wordpiece *w, uint64_t h);

/* --- nfc_text.c: is it NFC, on the first look?  Appends the NFC form; invalid bytes stay. */
bool dan_nfc_is_settled(const char *p, size_t n);
void dan_nfc_text(const char *p, size_t n, struct dan_str *out);

/* --- bpe_words.c: a text without added tokens.  prepare makes word_table, when the merges are there. */
int dan_bpe_prepare(struct dan_tokenizer *t, struct dan_err *e);
void dan_bpe_release(struct dan_tokenizer *t);
int dan_bpe_words(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                  struct dan_err *e);

#endif
