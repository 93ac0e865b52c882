/* SentencePiece as a whole: its normaliser, its four models and its decoder, with the ids and the text of its own
 * library.  A spec whose `sp` is set is compiled to this; its JSON parts are then only what an exported tokenizer.json says,
 * which comes as near as that schema can. */
#ifndef DAN_TEXT_SP_MODEL_H
#define DAN_TEXT_SP_MODEL_H
#include "text/spec.h"

enum dan_sp_type { DAN_SP_NORMAL = 1, DAN_SP_UNKNOWN, DAN_SP_CONTROL, DAN_SP_USER_DEFINED, DAN_SP_UNUSED, DAN_SP_BYTE };
enum dan_sp_algorithm { DAN_SP_UNIGRAM = 1, DAN_SP_BPE, DAN_SP_WORD, DAN_SP_CHAR };

struct dan_sp_normal {                         /* normalizer_spec, denormalizer_spec */
    struct dan_str charsmap;                   /* precompiled; empty: none */
    bool dummy_prefix, remove_spaces, escape_spaces;       /* add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces */
};
struct dan_sp_rules {
    enum dan_sp_algorithm algorithm;
    uint8_t *type;                             /* [n_type] enum dan_sp_type by id */
    size_t n_type;
    struct dan_sp_normal in, out;
    bool suffix;                               /* treat_whitespace_as_suffix */
    bool denormalize;                          /* out is to be applied to decoded text */
    bool raw_bytes;                            /* invalid UTF-8 stays as it is (llama.cpp, llama2.c), else each byte is U+FFFD */
    bool known_only;                           /* a character outside the vocabulary takes part in no merge (llama2.c) */
    char *unk_surface;                         /* NULL: " \u2047 " */
};
/* Rules as a model says that says nothing (dummy_prefix, remove_spaces, escape_spaces on), types of n pieces all NORMAL. */
struct dan_sp_rules *dan_sp_rules_new(enum dan_sp_algorithm algorithm, size_t n);      /* NULL: out of memory */
void dan_sp_rules_free(struct dan_sp_rules *r);        /* NULL is fine */
/* The parts of tokenizer.json that say the same, as near as they can, into s; flags of pieces by their types. */
int  dan_sp_rules_to_json(struct dan_tok_spec *s, struct dan_err *e);

struct dan_sp;
int  dan_sp_new(const struct dan_tok_spec *s, struct dan_sp **out, struct dan_err *e);
void dan_sp_free(struct dan_sp *m);                    /* NULL is fine */
/* cache may be NULL: bpe remembers words in it. */
int  dan_sp_encode(const struct dan_sp *m, struct dan_tok_cache *cache, const char *p, size_t n, struct dan_ids *out, struct dan_err *e);
/* span gets for each id the bytes [from, to) of p that it came from, as SentencePiece's begin and end; each piece of a byte has
 * those of its whole character. */
int  dan_sp_encode_spans(const struct dan_sp *m, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span, struct dan_err *e);
/* As SentencePiece's Decode, but ids out of range give nothing and control tokens their text if `control`. */
void dan_sp_decode(const struct dan_sp *m, const int32_t *ids, size_t n, bool control, struct dan_str *out);
/* One id after the other: a piece of a byte gives the byte; the denormaliser is not applied.  {0} is ready. */
struct dan_sp_detok { bool past_start, ate_space, any; };
void dan_sp_detok_push(const struct dan_sp *m, struct dan_sp_detok *d, int32_t id, bool control, struct dan_str *out);

#endif
