/* The steps of unigram training, Kudo 2018, as SentencePiece does them. */
#ifndef DAN_TEXT_TRAIN_UNIGRAM_H
#define DAN_TEXT_TRAIN_UNIGRAM_H
#include "text/train_pieces.h"

/* train_unigram_seed.c: every covered character, then the repeated substrings of words that may be pieces, by how much text they cover
 * (uses * characters); at most `most`.  Scores are log probabilities. */
int dan_unigram_seeds(const struct dan_sp_training *t, size_t most, struct dan_pieces *out, struct dan_err *e);

/* train_unigram_em.c */
struct dan_em;
int  dan_em_new(const struct dan_words *w, struct dan_pool *pool, struct dan_em **out, struct dan_err *e);
void dan_em_free(struct dan_em *m);            /* NULL is fine */
/* One round of expectation and maximisation: new scores; pieces that are hardly used go.  *objective: minus log likelihood for each word. */
int  dan_em_round(struct dan_em *m, struct dan_pieces *p, double *objective, struct dan_err *e);
/* Drops the pieces without which the text stays nearly as likely, until `keep` are left. */
int  dan_em_prune(struct dan_em *m, struct dan_pieces *p, size_t keep, struct dan_err *e);

#endif
