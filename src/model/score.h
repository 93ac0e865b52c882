/* A score head: value = score.weight . h for every row, h what the language head reads too (after the final norm), score.weight [1,C], no bias.  In
 * files it is transformers' ...ForSequenceClassification with num_labels 1.
 *
 * A model may have a language head, a score head, or both.  An adapter may have a score head of its own, "score.weight@NAME.saved", which stands in for the
 * model's while the adapter is on, so that a reward model and a critic can share one base: PEFT's modules_to_save ["score"].  A score head learns with what
 * else learns; beside a trained adapter the adapter's own, or the model's where it has none. */
#ifndef DAN_MODEL_SCORE_H
#define DAN_MODEL_SCORE_H
#include "model/lm.h"

struct dan_score_opts {
    const char *adapter;                       /* whose head it is; NULL: the model's */
    double  std;                               /* of normal random weights; 0: zeros, every value is 0 */
    uint64_t seed;
    const char *like;                          /* begins as the head of this adapter, "" as the model's; NULL: as std says */
};
/* Adds a fresh head.  Before lm is bound to a program.  Fails where there is one already, or no adapter of the name. */
int  dan_lm_add_score(struct dan_lm *lm, const struct dan_score_opts *o, struct dan_err *e);
/* With the adapters that are on: there is a head to compute scores with. */
bool dan_lm_has_score(const struct dan_lm *lm);
/* The head of an adapter, "" or NULL the model's; NULL: none. */
struct dan_tensor *dan_lm_score_of(const struct dan_lm *lm, const char *adapter);
/* From now on it is a reward model: without a language head, here and in files. */
void dan_lm_drop_lm_head(struct dan_lm *lm);

/* For graphs that are looked at only: a row, no cache, every output that the weights allow. */
struct dan_io dan_lm_plain_io(const struct dan_lm *lm);

/* For dan_lm_graph: refuses what the weights cannot give; takes the head of an adapter for the model's. */
int  dan_score_check(const struct dan_lm *lm, const struct dan_io *io, struct dan_err *e);
int  dan_score_choose(struct dan_graph *g, const struct dan_lm *lm, struct dan_err *e);
/* For readers and writers of folders.  What config.json says of scores: architectures, num_labels, reward_bias. */
int  dan_score_read_config(struct dan_lm *lm, const char *dir, const struct dan_store *file, struct dan_err *e);
/* "LlamaForCausalLM" -> "LlamaForSequenceClassification" where lm is a reward model. */
void dan_score_arch(const struct dan_lm *lm, char *out, size_t n);

#endif
