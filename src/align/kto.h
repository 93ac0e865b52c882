/* KTO (Ethayarajh et al. 2024): answers that are desirable or not, each by itself.
 *
 * The point that an answer is compared with, z = max(0, mean of policy - reference), is taken over mismatched pairs: the prompt of each row of the step
 * with the answer of the next row of the data.  Which answer that is never changes, so the reference's part is computed once. */
#ifndef DAN_ALIGN_KTO_H
#define DAN_ALIGN_KTO_H
#include "align/pairs.h"

/* Labelled answers as rows; a preference pair gives two.  Fails when all are desirable or none is. */
int  dan_labelled_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e);

struct dan_kto_stats { double loss, z, reward[2]; int64_t rows[2], ids; };      /* reward: means, of desirable and of other answers */
struct dan_kto_run {
    struct dan_tuner *tuner;
    const struct dan_sft_data *data;
    struct dan_sft_data mixed;                 /* prompt of row i with the answer of row i + 1, as far as it fits */
    double  beta, weight[2];                   /* weight: of desirable and of other answers */
    int64_t batch;
    uint64_t seed;
    struct dan_packed pack;
    double *ref, *mixed_ref, *sum;
    const struct dan_sft_row **row;
    float  *room;
    int64_t *order, epoch;
};
/* weight 0: so that both kinds weigh alike in all. */
int  dan_kto_init(struct dan_kto_run *k, struct dan_tuner *t, const struct dan_sft_data *data, double beta, const double weight[2], int64_t batch, int64_t pack_rows,
                  uint64_t seed, struct dan_err *e);
void dan_kto_release(struct dan_kto_run *k);
int  dan_kto_step(struct dan_kto_run *k, double lr, struct dan_kto_stats *out, double *norm, struct dan_err *e);
/* Of held-out rows with z = 0: mean rewards, and the loss. */
int  dan_kto_eval(struct dan_kto_run *k, const struct dan_sft_data *data, const double *ref, struct dan_kto_stats *out, struct dan_err *e);

#endif
