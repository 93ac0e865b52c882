/* BPE over Unicode characters (Sennrich et al. 2016): again and again the adjacent pair that ranks first, leftmost of
 * equals, becomes one piece.  What ranks: the listed merges, the score of the piece that comes out (SentencePiece), or its id.
 *
 * From a SentencePiece model (spec.sp set) characters outside the vocabulary may be part of a merge, user-defined pieces are
 * found first and never merged, UNUSED pieces may be merged through and are taken apart again at the end.  From
 * a tokenizer.json characters outside the vocabulary become bytes (byte_fallback), unk, or, without an unk, nothing, as in
 * `tokenizers`. */
#ifndef DAN_TEXT_CHARBPE_H
#define DAN_TEXT_CHARBPE_H
#include "text/spec.h"

struct dan_charbpe;
int  dan_charbpe_new(const struct dan_tok_spec *s, struct dan_charbpe **out, struct dan_err *e);
void dan_charbpe_free(struct dan_charbpe *b);          /* NULL is fine */
/* Appends the ids of n bytes, any bytes: one pre-token, or a whole normalised text (O(n log n)).  Thread-safe; short
 * texts allocate nothing. */
int  dan_charbpe_encode(const struct dan_charbpe *b, const char *p, size_t n, struct dan_ids *out, struct dan_err *e);
/* The same; span gets two numbers for each id: the bytes [from, to) of p that it stands for. */
int  dan_charbpe_encode_spans(const struct dan_charbpe *b, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span,
                              struct dan_err *e);
/* Remembers short parts of a text that no merge can cross; cache may be NULL.  One per thread, made for this tokenizer alone. */
struct dan_tok_cache;
int  dan_charbpe_encode_cached(const struct dan_charbpe *b, struct dan_tok_cache *cache, const char *p, size_t n, struct dan_ids *out,
                               struct dan_err *e);
/* Is a text always cut between these two characters (left_n and right_n bytes at p), both in the vocabulary?  What is before does not
 * change what is behind. */
bool dan_charbpe_cuts(const struct dan_charbpe *b, const char *p, size_t left_n, size_t right_n);
/* The merges of a SentencePiece BPE (or of one by id) as a list of pairs of ids, [n][2], highest score first, as tokenizer.json
 * wants them; dan_free.  Exact but for pairs of equal score that overlap: a list cannot say "the leftmost of both". */
int  dan_charbpe_list_merges(const struct dan_tok_spec *s, int32_t **merge, size_t *n, struct dan_err *e);

#endif
