/* `danlu reward` in three files: training (cmd_reward.c), score and eval (reward_score.c), what the reports say (reward_report.c). */
#ifndef DAN_CLI_REWARD_CMD_H
#define DAN_CLI_REWARD_CMD_H
#include "align/reward_eval.h"
#include "cli/cmd.h"

extern const struct dan_cmd reward_cmd_score, reward_cmd_eval;

/* By TRL's names where it has them. */
json_t *reward_report_json(const struct dan_rm_report *r);
/* Lines and tables; what: "held-out pairs". */
void reward_report_text(const struct dan_rm_report *r, const char *what, bool colour, struct dan_str *out);
/* Warns where rewards say little but how long an answer is. */
void reward_report_warn(const struct dan_rm_report *r, struct dan_ui *ui);
/* `N of M rows were skipped: ...`, with the first few. */
struct dan_sft_data;
void reward_tell_skipped(struct dan_ui *ui, const struct dan_sft_data *d);

#endif
