/* What formats that name their pre-tokenizer, instead of writing it down, share: byte-level BPE's patterns by name, as parts of
 * tokenizer.json.  Functions that return json_t return NULL when out of memory. */
#ifndef DAN_TEXT_SPEC_BPE_H
#define DAN_TEXT_SPEC_BPE_H
#include "text/spec.h"

struct dan_bpe_style {
    const char *names;                         /* of GGUF and of .tiktoken files, separated and enclosed by '|' */
    const char *regex[7];                      /* one after the other, each on what the one before left between; none: GPT-2's own */
    bool digits;                               /* every \p{N} alone, then GPT-2's own */
    bool nfc, whole;                           /* normalised first; a pre-token that is a token is not merged (ignore_merges) */
    bool bos, sep;                             /* adds bos; adds cls and sep, where the file does not say */
};
const struct dan_bpe_style *dan_bpe_style_named(const char *name, size_t n);           /* NULL: not known */

/* byte_level, pre_tokenizer, normalizer and decoder of s. */
int dan_spec_set_style(struct dan_tok_spec *s, const struct dan_bpe_style *style, struct dan_err *e);
/* post_processor: ids around a text, -1: none. */
int dan_spec_set_around(struct dan_tok_spec *s, int32_t before, int32_t after, struct dan_err *e);

#endif
