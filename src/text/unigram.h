/* Unigram language model (Kudo 2018): of all ways to cut a text into pieces, the one whose scores sum highest.
 *
 * Two libraries do this and differ in small things.  From a SentencePiece model (spec.sp set): sums in float, scores
 * as in its EncodeOptimized, user-defined pieces win over everything, CONTROL, UNKNOWN, BYTE and UNUSED pieces are never
 * matched in a text.  From a tokenizer.json: sums in double, every piece can be matched except special ones, and a run of
 * unknown characters that is itself a piece becomes that piece.  In both an unknown character costs the lowest score
 * minus 10, a run of them is one unk, and with byte_fallback it is the bytes' own pieces instead.
 *
 * Among equal sums the cut that was found first, from the left, shorter pieces first, stays. */
#ifndef DAN_TEXT_UNIGRAM_H
#define DAN_TEXT_UNIGRAM_H
#include "text/spec.h"

struct dan_unigram;
/* Refused: no pieces, a score that is no number, unknown characters with no unk to become.  s may be released afterwards. */
int  dan_unigram_new(const struct dan_tok_spec *s, struct dan_unigram **out, struct dan_err *e);
void dan_unigram_free(struct dan_unigram *u);          /* NULL is fine */
/* Appends the ids of n bytes, any bytes: one pre-token, or a whole normalised text.  Thread-safe; short texts allocate nothing. */
int  dan_unigram_encode(const struct dan_unigram *u, const char *p, size_t n, struct dan_ids *out, struct dan_err *e);
/* The same; span gets two numbers for each id: the bytes [from, to) of p that it stands for.  Each piece of a byte that
 * stands for an unknown run has the whole run, as in `tokenizers`. */
int  dan_unigram_encode_spans(const struct dan_unigram *u, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span,
                              struct dan_err *e);

/* A text in parts, cut where every path passes: *till (0 at first) is the score there, and afterwards that of the end.  Scores are
 * rounded as they grow, so the ids of a part may depend on it. */
int  dan_unigram_encode_on(const struct dan_unigram *u, const char *p, size_t n, double *till, struct dan_ids *out, struct dan_err *e);
/* May a text be cut between ASCII character c and a U+2581 behind it?  All paths pass there, and neither is unknown. */
bool dan_unigram_meets(const struct dan_unigram *u, unsigned char c);
/* A part of known characters is encoded, as dan_unigram_encode_on would, if its ids are sure: the same whatever the score before it, no
 * other path comes near.  Else (or longer than 17 bytes or 8 ids) false, and nothing has happened. */
bool dan_unigram_word(const struct dan_unigram *u, const char *p, size_t n, double *till, struct dan_ids *out);
/* *till after a part with ids that were sure.  False, and unchanged: they are not sure there, because the score is about to count anew. */
bool dan_unigram_pass(const struct dan_unigram *u, const int32_t *id, size_t n, double *till);

#endif
