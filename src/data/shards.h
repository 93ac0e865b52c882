/* Token shards: the corpus as ids in memory-mapped files.
 *
 *   DIR/train-00000.bin ... DIR/val-00000.bin ... DIR/data.json (totals, tokenizer hash; written last)
 *
 * A shard: 64-byte head (magic "DANLUTOK", u32 version 1, u32 bytes per token 2 or 4, u64 vocab,
 * i64 eos, u64 tokenizer hash, zeros), tokens, zeros to a multiple of 8, u64 start of every document,
 * 64-byte tail (u64 tokens, u64 documents, u64 text bytes, u64 index of the shard, u64 0, u64 0,
 * u32 CRC-32 of all before it, u32 0, magic "DANLUEND").  Little endian.  Counts come last so that
 * writing streams and a cut file is recognised at once.
 *
 * The token stream: documents in order, each closed by eos when the tokenizer has one.
 *
 * Validation split of fraction f: with fewer than 20 documents the last f of the corpus's bytes is cut off
 * (at a character boundary, inside a document if need be; one document of ASCII text and f = 0.1 gives
 * exactly nanoGPT's split); with 20 or more, every (1/f)-th document, the first chosen by the seed. */
#ifndef DAN_DATA_SHARDS_H
#define DAN_DATA_SHARDS_H
#include "data/text.h"

struct dan_token_list { int32_t *p; size_t n, cap; };           /* grow with dan_vec_grow(&l->p, &l->cap, ...) */

struct dan_encoder {
    /* Appends the ids of n bytes.  No bos or eos: the shards add eos. */
    int (*encode)(void *ctx, const char *bytes, size_t n, struct dan_token_list *out, struct dan_err *e);
    void    *ctx;
    int64_t  vocab, eos;                       /* ids are in [0, vocab); eos -1: none */
    uint64_t hash;                             /* identifies the tokenizer */
    /* Documents longer than this are encoded in pieces, to bound memory.  Pieces end after a line's newline
     * between two visible characters, where byte, character and GPT-2-like BPE tokenizers break
     * anyway.  0: 4 MiB.  -1: never (tokenizers that add a prefix to every text). */
    int64_t  piece_bytes;
};

struct dan_shard_opts {
    double   val_fraction;                     /* [0, 0.5]; 0: no validation split */
    uint64_t seed;
    int64_t  max_tokens;                       /* per shard; 0: 64 Mi */
    bool (*progress)(void *ctx, int64_t bytes_done, int64_t bytes);   /* false cancels with DAN_ECANCELLED */
    void *progress_ctx;
};

struct dan_split_stats { int64_t tokens, docs, bytes, shards; };  /* tokens with eos; bytes of text */
struct dan_shard_stats { struct dan_split_stats train, val; int64_t blank; };

/* Tokenises the corpus into DIR.  DIR appears whole; one that was there is replaced at the end.
 * Fails when a split stays empty. */
int dan_shards_write(struct dan_text *text, const struct dan_encoder *enc, const char *dir, const struct dan_shard_opts *o,
                     struct dan_shard_stats *out, struct dan_err *e);

/* One mapped shard. */
struct dan_shard {
    const void     *tokens;                    /* u16 or u32 */
    const uint64_t *doc;                       /* starts, ascending, doc[0] = 0 */
    int64_t n, n_docs, bytes;
    int32_t width;                             /* 2 or 4 */
};
struct dan_shards;
/* Maps DIR/SPLIT-*.bin ("train", "val").  Checks structure and sizes; verify checks the checksums. */
int  dan_shards_open(const char *dir, const char *split, struct dan_shards **out, struct dan_err *e);
int  dan_shards_verify(const struct dan_shards *s, struct dan_err *e);
/* One shard in memory, copied: n ids, documents starting at doc[0] = 0 < doc[1] < ... */
int  dan_shards_of(const int32_t *ids, int64_t n, const int64_t *doc, int64_t n_docs, int64_t eos,
                   struct dan_shards **out, struct dan_err *e);
void dan_shards_free(struct dan_shards *s);

int64_t  dan_shards_tokens(const struct dan_shards *s);
int64_t  dan_shards_docs(const struct dan_shards *s);
int64_t  dan_shards_bytes(const struct dan_shards *s);           /* of text: bits per byte = nats * targets / bytes / ln 2 */
int64_t  dan_shards_vocab(const struct dan_shards *s);           /* 0: unknown */
int64_t  dan_shards_eos(const struct dan_shards *s);
uint64_t dan_shards_hash(const struct dan_shards *s);            /* of the tokenizer */
size_t   dan_shards_count(const struct dan_shards *s);
const struct dan_shard *dan_shards_at(const struct dan_shards *s, size_t i);

static inline int32_t dan_shard_token(const struct dan_shard *s, int64_t i)
{
    return s->width == 2 ? (int32_t)((const uint16_t *)s->tokens)[i] : (int32_t)((const uint32_t *)s->tokens)[i];
}
/* The document that token i belongs to. */
int64_t dan_shard_doc_of(const struct dan_shard *s, int64_t i);

#endif
