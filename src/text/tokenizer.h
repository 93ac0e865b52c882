/* Bytes <-> ids.  Kinds: "bpe" (byte level as GPT-2, or over characters), "unigram", "wordpiece" (BERT), "wordlevel", "char"
 * (one id per Unicode code point of the training text) and "bytes" (256 ids).  A tokenizer is read-only once made, so any
 * number of threads may use one; what a thread writes lives in its own dan_tok_cache.
 *
 * User text never becomes a control token unless the caller asks for it: without DAN_ENCODE_SPECIAL
 * "<|endoftext|>" in a text is encoded as the 13 characters that it is. */
#ifndef DAN_TEXT_TOKENIZER_H
#define DAN_TEXT_TOKENIZER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/str.h"

/* Growing list of ids.  {0} is a valid empty list.  Out of memory sets `failed`, as in dan_str. */
struct dan_ids { int32_t *v; size_t n, cap; bool failed; };
void dan_ids_push(struct dan_ids *ids, int32_t id);
bool dan_ids_grow(struct dan_ids *ids, size_t more);
/* Room for `more` ids at v + n, written by the caller.  False: out of memory, as in `failed`. */
static inline bool dan_ids_room(struct dan_ids *ids, size_t more) { return ids->cap - ids->n >= more || dan_ids_grow(ids, more); }
void dan_ids_release(struct dan_ids *ids);
/* Bytes [from, to) of a text, and a list of such. */
struct dan_span { size_t from, to; };
struct dan_spans { struct dan_span *v; size_t n, cap; bool failed; };
void dan_spans_push(struct dan_spans *s, size_t from, size_t to);
void dan_spans_release(struct dan_spans *s);

struct dan_tokenizer;

/* path: a model directory or one file.  In a directory the first of these counts: tokenizer.json; vocab.json + merges.txt; encoder.json +
 * vocab.bpe; tokenizer.model, spiece.model, sentencepiece.bpe.model; vocab.txt (WordPiece); *.tiktoken; tokenizer.bin (llama2.c); *.model, *.spm,
 * *.gguf.  A file is read by its name, else by its first bytes (Llama 3's tokenizer.model is ranks, not SentencePiece's).  What lies
 * beside it (tokenizer_config.json, special_tokens_map.json, added_tokens.json, chat_template.jinja) names bos, eos and so on.
 *
 * tokenizer.json: everything that the schema of Hugging Face `tokenizers` 0.23 names, with its ids.  Patterns without a hand-written
 * scanner run in PCRE2: slower, never refused; what PCRE2 cannot run (absent operators, lookbehind of unbounded length) and dropout fail with
 * the key that is the reason. */
int  dan_tokenizer_load(const char *path, struct dan_tokenizer **out, struct dan_err *e);

/* Writes dir/tokenizer.json and dir/tokenizer_config.json (Hugging Face `tokenizers` schema); what was loaded from a tokenizer.json
 * is written as it was read, other formats in this schema (for SentencePiece as near as it can say).  dir must exist. */
int  dan_tokenizer_save(const struct dan_tokenizer *t, const char *dir, struct dan_err *e);
void dan_tokenizer_free(struct dan_tokenizer *t);              /* NULL is fine */

const char *dan_tokenizer_kind(const struct dan_tokenizer *t);          /* "bpe", "unigram", "wordpiece", "wordlevel", "char", "bytes" */
int32_t  dan_tokenizer_vocab_size(const struct dan_tokenizer *t);       /* largest id + 1, special tokens included */
int32_t  dan_tokenizer_bos(const struct dan_tokenizer *t);              /* -1: none */
int32_t  dan_tokenizer_eos(const struct dan_tokenizer *t);
int32_t  dan_tokenizer_unk(const struct dan_tokenizer *t);
uint64_t dan_tokenizer_hash(const struct dan_tokenizer *t);             /* equal: same ids for every text */
/* Raw bytes of a token, not NUL-terminated; NULL and *n = 0 for ids that have none. */
const char *dan_tokenizer_token(const struct dan_tokenizer *t, int32_t id, size_t *n);
bool     dan_tokenizer_is_special(const struct dan_tokenizer *t, int32_t id);
int32_t  dan_tokenizer_find_special(const struct dan_tokenizer *t, const char *text);   /* -1: none of that name */
/* i-th added token (special or not) in the order of ids, -1 at the end. */
int32_t  dan_tokenizer_added(const struct dan_tokenizer *t, size_t i);
/* What belongs around every text of a model ([CLS] and [SEP], <s> and </s>), as post_processor says; may be empty. */
const struct dan_ids *dan_tokenizer_before(const struct dan_tokenizer *t);
const struct dan_ids *dan_tokenizer_after(const struct dan_tokenizer *t);
/* What the tokenizer's file does not say and was taken for granted (a pattern), or NULL. */
const char *dan_tokenizer_assumed(const struct dan_tokenizer *t);
/* Text of the chat template in tokenizer_config.json or chat_template.jinja, or NULL. */
const char *dan_tokenizer_chat_template(const struct dan_tokenizer *t);

enum dan_encode_flags {
    DAN_ENCODE_SPECIAL = 1,                    /* special tokens written in the text become their ids */
    DAN_ENCODE_UNK = 2,                        /* what the vocabulary lacks becomes <unk>; else it is an error */
};

/* Appends the ids of n bytes; adds no bos or eos.  After a failure *out holds what came before it.  Any
 * bytes are accepted by "bpe", "bytes" and "wordpiece" (which always has an [UNK]); "char" needs UTF-8 and fails with the character and its
 * offset when the vocabulary lacks it (see DAN_ENCODE_UNK). */
int dan_tokenizer_encode(const struct dan_tokenizer *t, const char *bytes, size_t n, int flags, struct dan_ids *out,
                         struct dan_err *e);

/* The same ids; span gets for each the bytes of the text that it stands for, through normalisation, as `tokenizers`
 * has them (whole characters; its post-processor may leave out white space). */
int dan_tokenizer_encode_offsets(const struct dan_tokenizer *t, const char *bytes, size_t n, int flags, struct dan_ids *out,
                                 struct dan_spans *span, struct dan_err *e);

/* A text that is in part not to be trusted (a chat: jinja.h): mark[i] is not 0 where byte i came from a user.  With DAN_ENCODE_SPECIAL a
 * special token is found only where all its bytes are unmarked, so what a user writes makes no control token and cuts none in two; ordinary
 * added tokens are found everywhere.  The whole text is encoded at once: a text without special tokens among its marked bytes has the ids that
 * encode gives it.  span as in encode_offsets, untrimmed.  mark NULL: nothing is marked. */
int dan_tokenizer_encode_marked(const struct dan_tokenizer *t, const char *bytes, const uint8_t *mark, size_t n, int flags,
                                struct dan_ids *out, struct dan_spans *span, struct dan_err *e);

/* Many texts on the threads of a pool (NULL: one thread): out[i] is what encode appends for text[i], however many threads there
 * are.  The failure of the text with the lowest number is reported. */
struct dan_pool;
struct dan_bytes { const char *p; size_t n; };
int dan_tokenizer_encode_batch(const struct dan_tokenizer *t, struct dan_pool *pool, const struct dan_bytes *text, size_t n, int flags,
                               struct dan_ids *out, struct dan_err *e);

/* What post_processor makes of the ids of one text (b NULL) or of two: control tokens around and between them.  types: 0 or 1 for each id,
 * which of the two it belongs to, as the model was trained; may be NULL. */
int dan_tokenizer_join(const struct dan_tokenizer *t, const struct dan_ids *a, const struct dan_ids *b, struct dan_ids *out,
                       struct dan_ids *types, struct dan_err *e);

/* A text that comes in pieces, cut anywhere: together the ids of the whole.  Memory is bounded by the longest line or so where the
 * tokenizer has sure boundaries (byte-level BPE with a known pattern, WordPiece of BERT); else everything waits for the end. */
struct dan_tok_stream;
int  dan_tok_stream_new(const struct dan_tokenizer *t, int flags, struct dan_tok_stream **out, struct dan_err *e);
int  dan_tok_stream_push(struct dan_tok_stream *s, const char *bytes, size_t n, struct dan_ids *out, struct dan_err *e);
int  dan_tok_stream_finish(struct dan_tok_stream *s, struct dan_ids *out, struct dan_err *e);
void dan_tok_stream_free(struct dan_tok_stream *s);    /* NULL is fine */

/* Remembers the ids of short words (16 MiB, bounded): same ids, more than twice as fast on English that repeats itself (GPT-2's vocabulary,
 * Wikipedia, one core: 105 and 260 MB/s).  One per thread. */
struct dan_tok_cache;
int  dan_tok_cache_new(const struct dan_tokenizer *t, struct dan_tok_cache **out, struct dan_err *e);
void dan_tok_cache_free(struct dan_tok_cache *c);
int  dan_tok_cache_encode(struct dan_tok_cache *c, const char *bytes, size_t n, int flags, struct dan_ids *out,
                          struct dan_err *e);

/* Appends the text of ids as the tokenizer's decoder makes it: the exact bytes of byte-level BPE; WordPiece forgets spaces and
 * case, its words are joined with spaces.  Special tokens give their text; ids out of range give nothing.  _plain leaves special
 * tokens out. */
void dan_tokenizer_decode(const struct dan_tokenizer *t, const int32_t *ids, size_t n, struct dan_str *out);
void dan_tokenizer_decode_plain(const struct dan_tokenizer *t, const int32_t *ids, size_t n, struct dan_str *out);

/* Decoding one id at a time, for printing while generating: what a later token may still change, and bytes that are the beginning of a
 * UTF-8 sequence, wait, so that a terminal never sees half a character and all pieces together are the whole decode.  {0} with `t` set (and
 * skip_special) is ready; finish gives out what waits, complete or not, and must be called: it frees. */
struct dan_decoding;
struct dan_detok {
    const struct dan_tokenizer *t;
    char held[4];
    int  n_held;
    bool skip_special, past_start, ate_space, any;
    struct dan_decoding *state;
};
void dan_detok_push(struct dan_detok *d, int32_t id, struct dan_str *out);
void dan_detok_finish(struct dan_detok *d, struct dan_str *out);

/* --- making tokenizers */

/* The i-th call gives the i-th document: *p = NULL at the end.  Valid until the next call. */
struct dan_text_source {
    int   (*next)(void *ctx, const char **p, size_t *n, struct dan_err *e);
    void   *ctx;
    int64_t total;                             /* bytes, for progress; 0: unknown */
};

struct dan_tok_train_opts {
    int32_t vocab_size;                        /* bpe: with the 256 bytes and the special tokens */
    int64_t min_pair_count;                    /* bpe: pairs seen less often are not merged; 0: 2 */
    const char *const *special;                /* NULL: "<|endoftext|>".  They get the last ids */
    size_t  n_special;
    const char *split;                         /* bpe: "gpt2" (NULL), "gpt2-digits", "llama3" (also cl100k), "qwen2" */
    size_t  max_bytes;                         /* memory for the word table; 0: 4 GiB */
    struct dan_pool *pool;                     /* NULL: one thread; the result does not depend on it */
    /* unigram, sp-bpe, wordpiece */
    double  coverage;                          /* of the text by the characters that become pieces; 0: 0.9995, wordpiece 1 */
    const char *normal;                        /* unigram, sp-bpe: "nmt_nfkc" (NULL), "nfkc" or "none"; wordpiece: "lower" (NULL) or "none" */
    bool    byte_fallback, split_digits;       /* other characters become bytes; every digit is a piece of its own */
    int32_t max_piece;                         /* characters of a piece; 0: 16 */
    const char *const *symbol;                 /* user-defined: always one piece, which text becomes */
    size_t  n_symbol;
    size_t  seeds;                             /* unigram: pieces to begin with; 0: 1,000,000 */
    struct dan_str *model_file;                /* unigram, sp-bpe: gets SentencePiece's tokenizer.model as well; or NULL */
    /* done of total (0: unknown) in "read" (bytes), "merge" (tokens), "seed" and "prune" (pieces); false cancels with DAN_ECANCELLED */
    bool  (*progress)(void *ctx, const char *stage, int64_t done, int64_t total);
    void   *progress_ctx;
};
struct dan_tok_train_stats {
    int64_t docs, bytes;
    int64_t words, distinct;                   /* pre-tokens counted; distinct ones kept */
    int64_t pruned_words, pruned_uses;         /* given up because max_bytes was reached: distinct, and their uses */
    int64_t merges, last_count;                /* merges made; how often the last merged pair occurred */
};

/* Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019).  Ties go to the pair with the lower ids, so
 * the merges are those of Hugging Face `tokenizers` 0.23 on the same words, except that counts are 64-bit.
 * Special tokens in the text separate words.  Deterministic.  stats may be NULL. */
int dan_tokenizer_train_bpe(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                            struct dan_tok_train_stats *stats, struct dan_err *e);
/* One id per code point in the text, in code point order.  Invalid UTF-8 and U+0000 are errors. */
int dan_tokenizer_train_char(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                             struct dan_tok_train_stats *stats, struct dan_err *e);
/* Ids 0..255 are the bytes, then the special tokens (o may be NULL: <|endoftext|> = 256). */
int dan_tokenizer_new_bytes(const struct dan_tok_train_opts *o, struct dan_tokenizer **out, struct dan_err *e);

/* SentencePiece's two models, as that library trains them: <unk>, <s>, </s>, the special tokens (none for NULL), symbols, bytes, then the pieces.
 * A line of text is a sentence; words are what spaces part.  Unigram (Kudo 2018) needs up to 128 bytes for each of the seeds beside the word
 * table; BPE ties go to fewer characters, then the lower text. */
int dan_tokenizer_train_unigram(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                                struct dan_tok_train_stats *stats, struct dan_err *e);
int dan_tokenizer_train_spbpe(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                              struct dan_tok_train_stats *stats, struct dan_err *e);
/* WordPiece for BERT, as Hugging Face's WordPieceTrainer learns it: BPE whose pieces inside a word begin with "##", by count, not by the likelihood
 * of Schuster and Nakajima 2012.  [PAD] [UNK] [CLS] [SEP] [MASK], the special tokens, characters, pieces. */
int dan_tokenizer_train_wordpiece(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                                  struct dan_tok_train_stats *stats, struct dan_err *e);

/* From the parts of another file format (GGUF).  Strings are in the byte-level alphabet of GPT-2. */
struct dan_tokenizer_parts {
    const char *const *token;                  /* [n] NUL-terminated */
    const uint8_t *added;                      /* [n] 0 ordinary, 1 special, 2 added but not special; NULL: all 0 */
    const char *const *merge;                  /* [n_merges] "left right" */
    size_t n, n_merges;
    const char *split;                         /* as in train opts, or GGUF's names: gpt-2 llama-bpe qwen2 smollm ... */
    int32_t bos, eos;                          /* -1: none */
    const char *chat_template;                 /* or NULL */
};
int dan_tokenizer_from_parts(const struct dan_tokenizer_parts *p, struct dan_tokenizer **out, struct dan_err *e);

#endif
