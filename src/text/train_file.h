/* Writing SentencePiece's own file, and the normalisation that goes into it. */
#ifndef DAN_TEXT_TRAIN_FILE_H
#define DAN_TEXT_TRAIN_FILE_H
#include "text/spec.h"

/* Appends a tokenizer.model (layout: spec_sentencepiece.c); s->sp is set.  rule: the name of the normalisation. */
int dan_spec_to_sentencepiece(const struct dan_tok_spec *s, const char *rule, struct dan_str *out, struct dan_err *e);
/* Appends the precompiled_charsmap (layout: charsmap.h) of SentencePiece's rule "nfkc" or "nmt_nfkc": NFKC of each character and of
 * the sequences that compose; nmt: other white space is a space, controls go, U+FF5E stays. */
int dan_charsmap_make(const char *rule, struct dan_str *out, struct dan_err *e);

#endif
