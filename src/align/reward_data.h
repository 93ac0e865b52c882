/* What a reward model learns from: answers to one prompt in an order of preference.
 *
 * A preference pair is a group of two, of ranks 1 and 2; a row with `completions` and `ranks` is a group of as many answers.  An answer's ids
 * end with the token that its value is read at: its end of turn, which a policy's answer ends with, too; where the template writes none, the
 * tokenizer's eos is put there, as TRL does. */
#ifndef DAN_ALIGN_REWARD_DATA_H
#define DAN_ALIGN_REWARD_DATA_H
#include "align/sft_data.h"

struct dan_rank_group {
    int64_t first;                             /* its answers are rows.v[first] .. first + n - 1 */
    int32_t n, pairs;                          /* pairs of different rank, > 0 */
    double  margin;                            /* of the row; 0 where it has none */
};
struct dan_ranked {
    struct dan_sft_data rows;                  /* answers, and what was skipped; learnt: tokens of the answer */
    int32_t *rank;                             /* [rows.n], 1 is best */
    struct dan_rank_group *v;
    size_t  n, cap, rank_cap;
    int64_t pairs;
    bool    margins;                           /* some row has one that is not 0 */
};

/* Reads preference pairs and ranked answers.  A group of which one answer is empty or too long is skipped whole and counted, as is one whose
 * answers are all of one rank, or (a pair) alike once rendered; nothing is cut.  o->learn is not read.  Fails when nothing is left. */
int  dan_ranked_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_ranked *out, struct dan_err *e);
void dan_ranked_release(struct dan_ranked *d);
/* Moves the groups of every k-th prompt, about `share` of all: a prompt that several rows have is never on both sides. */
int  dan_ranked_hold_out(struct dan_ranked *from, double share, struct dan_ranked *held, struct dan_err *e);
/* Ranks of each group in random order: what is then learnt is noise, and held-out accuracy is 1/2 but for chance. */
void dan_ranked_shuffle(struct dan_ranked *d, uint64_t seed);

/* Prompt and answer `which` of an example up to where its value is read.  ended false: the answer was cut short, and the last token is the last
 * of its text.  *skip says why there is none, with the words in *e. */
int  dan_valued_row(const struct dan_example *ex, size_t which, bool ended, const struct dan_sft_data_opts *o, struct dan_sft_row *out, enum dan_skip *skip,
                    struct dan_err *e);

#endif
