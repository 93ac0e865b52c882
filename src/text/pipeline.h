/* The general way of a text to ids, as Hugging Face `tokenizers` goes it: added tokens out of the raw text, normaliser, added
 * tokens out of the normalised text, pre-tokenizer, model. */
#ifndef DAN_TEXT_PIPELINE_H
#define DAN_TEXT_PIPELINE_H
#include "text/spec.h"

struct dan_pipeline;
extern const struct dan_tok_kind dan_tok_pipeline_bpe, dan_tok_pipeline_unigram, dan_tok_pipeline_wordpiece, dan_tok_pipeline_wordlevel;

/* Compiles the parts that s names for a tokenizer whose vocabulary is set; normalised added tokens get their place in t->normal. */
int  dan_pipeline_new(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_pipeline **out, struct dan_err *e);
void dan_pipeline_free(struct dan_pipeline *p);        /* NULL is fine */
/* Appends the ids of n bytes; span may be NULL. */
int  dan_pipeline_encode(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                         struct dan_spans *span, struct dan_err *e);
/* The same with marks, as in dan_tokenizer_encode_marked. */
int  dan_pipeline_encode_marked(const struct dan_tokenizer *t, const char *p, const uint8_t *mark, size_t n, int flags, struct dan_ids *out,
                                struct dan_spans *span, struct dan_err *e);
bool dan_pipeline_by_words(const struct dan_pipeline *p);         /* does it take words by their bytes (spaced.h)? */
/* For the hash of a tokenizer: the parts that decide about ids. */
uint64_t dan_pipeline_hash(const struct dan_tok_spec *s, uint64_t h);

#endif
