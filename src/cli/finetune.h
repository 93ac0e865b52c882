/* `danlu finetune` in three files: options (cmd_finetune.c), preparing and the report (finetune_prepare.c), the loop (finetune_loop.c). */
#ifndef DAN_CLI_FINETUNE_H
#define DAN_CLI_FINETUNE_H
#include "align/sft.h"
#include "cli/lm_open.h"
#include "train/schedule.h"

struct finetune_opts {
    const char *model, *out, *template, *learn, *replay, *schedule, *optimizer, *dtype, *fusion;
    const char *lora_targets, *lora_layers;
    struct dan_strings data, forget;
    int64_t steps, batch, context, rows, warmup, lora_rank;
    double  epochs, lr, min_lr, weight_decay, beta1, beta2, eps, clip, val_fraction, lora_alpha;
    bool    rslora, merge, remat;
};

struct finetune {
    struct finetune_opts o;
    struct dan_cli *cli;
    struct lm_files m;
    struct dan_chat_template chat;
    struct dan_sft_data data, val, replay, forget;
    double  replay_share;
    struct dan_tuner *tuner;
    struct dan_sft sft;
    double *val_before, *val_after, *forget_before, *forget_after;   /* mean loss of each sequence */
    double  last_loss, train_seconds;
    int64_t steps, tokens;
};

int  finetune_prepare(struct finetune *f, struct dan_err *e);
int  finetune_measure(struct finetune *f, double **val, double **forget, struct dan_err *e);
int  finetune_loop(struct finetune *f, struct dan_err *e);
int  finetune_save(struct finetune *f, struct dan_err *e);
int  finetune_report(struct finetune *f, struct dan_err *e);
void finetune_release(struct finetune *f);
const char *finetune_path(struct finetune *f, const char *name);     /* OUT/name, in the command's arena */

#endif
