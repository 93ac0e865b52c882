/* Which tokenizer.json may be encoded word by word (spaced.h), by what its parts are: every step of the normaliser and the
 * pre-tokenizer is one whose effect on both sides of a cut is known, else the answer is no. */
#ifndef DAN_TEXT_SPACED_RULES_H
#define DAN_TEXT_SPACED_RULES_H
#include "text/charbpe.h"
#include "text/normal.h"
#include "text/spaced.h"
#include "text/unigram.h"

struct dan_spaced_way {
    struct dan_spaced_rules rules;
    bool drop;                                 /* a part goes to the pipeline without its first space, which the pipeline puts there itself */
    bool whole;                                /* the model sees a text whole, not word by word */
};
/* One of b and u is the model, compiled; normal too (NULL: none).  False: not word by word. */
bool dan_spaced_fits(const struct dan_tok_spec *s, const struct dan_normal *normal, const struct dan_charbpe *b, const struct dan_unigram *u,
                     struct dan_spaced_way *out);

#endif
