/* `danlu dpo` in two files: pairs (cmd_dpo.c) and single labelled answers (dpo_kto.c). */
#ifndef DAN_CLI_DPO_H
#define DAN_CLI_DPO_H
#include "cli/tune_samples.h"

struct dpo_opts { struct tune_opts tune; const char *loss; double beta, gamma, smoothing, lambda, nll, desirable, undesirable; int64_t samples; };
/* Learning rate and steps for n rows an epoch. */
void dpo_plan(struct tune *t, int64_t n);
/* tune_begin, with what the run has counted so far. */
int  dpo_begin(struct tune *t, struct tune_part *part, int64_t *tokens, double *seconds, struct dan_err *e);
json_t *dpo_progress(int64_t tokens, double seconds);
/* After the loop: a checkpoint and DAN_ECANCELLED where it was stopped. */
int  dpo_stopped(struct tune *t, int64_t tokens, double seconds, struct dan_err *e);
int  dpo_kto(struct dan_cli *cli, const struct dpo_opts *o, struct dan_err *e);

#endif
