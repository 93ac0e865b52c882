/* `danlu dpo` in two files: pairs (cmd_dpo.c) and single labelled answers (dpo_kto.c). */
#ifndef DAN_CLI_DPO_H
#define DAN_CLI_DPO_H
#include "cli/tune.h"

struct dpo_opts { struct tune_opts tune; const char *loss; double beta, gamma, smoothing, lambda, desirable, undesirable; };
int64_t dpo_longest(const struct dan_sft_data *d, int64_t most);
/* Learning rate and steps for n rows an epoch. */
void dpo_plan(struct tune *t, int64_t n);
int  dpo_kto(struct dan_cli *cli, const struct dpo_opts *o, struct dan_err *e);

#endif
