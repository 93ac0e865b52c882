/* What a tokenizer's file says, whatever its format, before it is compiled into fast tables.
 *
 *   tokenizer.json  vocab.json+merges.txt  vocab.txt  tokenizer.model  .tiktoken  tokenizer.bin  GGUF keys
 *                                   \        |        /
 *                                    struct dan_tok_spec  --dan_tok_build-->  struct dan_tokenizer
 *                                            |
 *                                    tokenizer.json (dan_tokenizer_save)
 *
 * The large part, the pieces, is plain C.  The small parts are JSON in the schema of tokenizer.json, which names
 * them best: a reader of another format writes down what its format implies ("normalizer": {"type": "Replace", ...}).
 * One compiler, one writer, every format. */
#ifndef DAN_TEXT_SPEC_H
#define DAN_TEXT_SPEC_H
#include <jansson.h>
#include "text/impl.h"

enum dan_spec_model { DAN_SPEC_BPE, DAN_SPEC_UNIGRAM, DAN_SPEC_WORDPIECE, DAN_SPEC_WORDLEVEL };

/* Flags of a piece.  A piece is in the model's vocabulary, or is an added token, or both. */
enum {
    DAN_PIECE_MODEL = 1,
    DAN_PIECE_ADDED = 2,                       /* matched before the model sees the text */
    DAN_PIECE_SPECIAL = 4,                     /* a control token: text becomes it only with DAN_ENCODE_SPECIAL */
    DAN_PIECE_LSTRIP = 8, DAN_PIECE_RSTRIP = 16, DAN_PIECE_SINGLE_WORD = 32,
    DAN_PIECE_NORMALIZED = 64,                 /* matched in the normalised text */
    DAN_PIECE_UNUSED = 128,                    /* SentencePiece's UNUSED: has an id, never comes out of encoding */
};
struct dan_spec_piece { size_t at; uint32_t n; uint8_t flags; double score; };      /* bytes [at, at + n) of `bytes`; flags 0: a hole */

struct dan_sp_rules;                           /* text/sp_model.h */

struct dan_tok_spec {
    enum dan_spec_model model;
    struct dan_sp_rules *sp;                   /* not NULL: SentencePiece's own rules, which dan_tok_build follows */
    struct dan_str bytes;
    struct dan_spec_piece *piece;              /* by id */
    size_t  n, cap;
    size_t  max_ids;                           /* put refuses more: what the file's size allows; 0: 2^24 */

    /* bpe.  Exactly one of: merges listed (Hugging Face), scores (SentencePiece: the adjacent pair whose joined piece scores
     * highest merges first, leftmost of equals), ranks (tiktoken: the pair whose joined piece has the lowest id). */
    enum { DAN_MERGES_LISTED, DAN_MERGES_BY_SCORE, DAN_MERGES_BY_ID } merges;
    int32_t *merge;                            /* [n_merges][2] ids, in order of rank; listed only */
    size_t  n_merges;
    bool    byte_level;                        /* pieces are raw bytes here; their names in a file are GPT-2's alphabet */
    bool    byte_fallback, fuse_unk, ignore_merges;     /* byte_fallback also for unigram */
    char    prefix[32], suffix[32];            /* continuing_subword_prefix ("##"), end_of_word_suffix ("</w>") */
    int32_t unk;                               /* of the model; -1: none */
    int64_t max_chars;                         /* wordpiece: max_input_chars_per_word */

    json_t *normalizer, *pre_tokenizer, *post_processor, *decoder;   /* NULL: none */

    int32_t bos, eos, pad;                     /* -1: none */
    char   *chat_template;                     /* or NULL */
    const char *where;                         /* the file, in messages */
    const char *assumed;                       /* what the file does not say and was assumed; NULL: nothing */
};

void dan_tok_spec_init(struct dan_tok_spec *s, enum dan_spec_model model, const char *where);
void dan_tok_spec_release(struct dan_tok_spec *s);
/* Piece `id` (ids in any order).  A second text for an id is an error; the same text adds its flags. */
int  dan_tok_spec_put(struct dan_tok_spec *s, int64_t id, const char *p, size_t n, double score, int flags, struct dan_err *e);

/* Compiles, and takes the spec over: s is empty afterwards and may be released.  After a failure s is as it was.  What danlu does not know
 * is refused with its key. */
int  dan_tok_build(struct dan_tok_spec *s, struct dan_tokenizer **out, struct dan_err *e);

/* Readers, one file each; each fills an initialised spec.  path is the file. */
int  dan_spec_from_json(const char *path, struct dan_tok_spec *s, struct dan_err *e);            /* tokenizer.json */
int  dan_spec_of_json_text(const char *text, size_t n, struct dan_tok_spec *s, struct dan_err *e);   /* the same, in memory */
int  dan_spec_from_vocab_merges(const char *vocab_json, const char *merges_txt, struct dan_tok_spec *s, struct dan_err *e);
int  dan_spec_from_vocab_txt(const char *path, struct dan_tok_spec *s, struct dan_err *e);       /* WordPiece */
int  dan_spec_from_sentencepiece(const char *path, struct dan_tok_spec *s, struct dan_err *e);   /* tokenizer.model, .spm */
int  dan_spec_from_tiktoken(const char *path, struct dan_tok_spec *s, struct dan_err *e);        /* NAME.tiktoken */
bool dan_spec_is_tiktoken(const char *bytes, size_t n);          /* by content: Llama 3 calls such a file tokenizer.model */
int  dan_spec_from_llama2c(const char *path, struct dan_tok_spec *s, struct dan_err *e);         /* tokenizer.bin */
struct dan_gguf;
int  dan_spec_from_gguf(const struct dan_gguf *g, struct dan_tok_spec *s, struct dan_err *e);
/* The other way: tokenizer.json's text.  "tokenizer_config.json" beside it is written by dan_tokenizer_save. */
int  dan_spec_to_json(const struct dan_tok_spec *s, struct dan_str *out, struct dan_err *e);

#endif
