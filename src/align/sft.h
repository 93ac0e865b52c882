/* Supervised fine-tuning: steps over token sequences.
 *
 * A step takes `batch` sequences of the epoch's shuffled order (a function of seed and epoch), packs them into runs of at most max_rows rows, and
 * weighs every learnt token by 1 / the learnt tokens of the whole step: how it is packed or cut changes the order of sums alone. */
#ifndef DAN_ALIGN_SFT_H
#define DAN_ALIGN_SFT_H
#include "align/sft_data.h"
#include "align/tuner.h"

struct dan_sft {
    struct dan_tuner *tuner;
    const struct dan_sft_data *data, *replay;   /* replay NULL: none */
    double  replay_share;                      /* of learnt tokens, on average over steps; < 1 */
    int64_t batch;
    uint64_t seed;
    struct dan_packed pack;
    const struct dan_sft_row **packed;        /* the pack's sequences */
    bool   *is_replay;
    float  *nll, *weight;                      /* rows of the pack; ids of a sequence */
    int64_t *order, *replay_order;             /* of the present epochs */
    int64_t epoch, replay_epoch;
};
/* tuner's max_rows is pack_rows; every sequence must fit. */
int  dan_sft_init(struct dan_sft *s, struct dan_tuner *t, const struct dan_sft_data *data, const struct dan_sft_data *replay, double replay_share,
                  int64_t batch, int64_t pack_rows, uint64_t seed, struct dan_err *e);
void dan_sft_release(struct dan_sft *s);
int64_t dan_sft_steps_per_epoch(const struct dan_sft *s);
struct dan_sft_stats { int64_t step, ids, learnt, replayed; double loss, replay_loss, grad_norm, epoch; };   /* losses: nats per learnt token */
/* Step number dan_tuner_steps. */
int  dan_sft_step(struct dan_sft *s, double lr, struct dan_sft_stats *out, struct dan_err *e);

/* Mean nats per learnt token of sequences, and of each sequence where mean is not NULL: mean[n]. */
int  dan_sft_eval(struct dan_tuner *t, const struct dan_sft_data *data, struct dan_packed *pack, double *loss, double *mean, struct dan_err *e);

/* after - before of paired means, weighted by tokens: the change and its standard error over sequences. */
struct dan_change { double before, after, change, error; int64_t n; };
struct dan_change dan_paired_change(const struct dan_sft_data *data, const double *before, const double *after);

#endif
