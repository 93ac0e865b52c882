/* What a tokenizer is, in words: for `danlu tokenizer info`. */
#ifndef DAN_TEXT_ABOUT_H
#define DAN_TEXT_ABOUT_H
#include "base/str.h"
#include "text/tokenizer.h"

struct dan_tok_about {
    const char *algorithm;                     /* "merge-list BPE", "rank BPE", "score BPE", "unigram", "WordPiece", "WordLevel", ... */
    const char *splitter;                      /* the hand-written scanner's name; "pipeline": PCRE2 where there are patterns; "SentencePiece" */
    struct dan_str normalizer, pre_tokenizer, decoder, post_processor;     /* "NFKC, Replace"; "none" */
};
/* Release in any case; out of memory is `failed` in a string. */
void dan_tok_about(const struct dan_tokenizer *t, struct dan_tok_about *a);
void dan_tok_about_release(struct dan_tok_about *a);

#endif
