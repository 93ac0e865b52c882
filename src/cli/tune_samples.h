/* Answers to held-out prompts before and after, for reports of fine-tuning. */
#ifndef DAN_CLI_TUNE_SAMPLES_H
#define DAN_CLI_TUNE_SAMPLES_H
#include "align/sft_data.h"
#include "cli/tune.h"

#define TUNE_SAMPLES_OPTION(owner, field)                                                                                                             \
    {.name = "samples", .type = 'i', .offset = offsetof(owner, field), .dflt = "3", .meta = "N", .min = 0, .max = 1000,                              \
     .help = "held-out prompts that are answered before and after, for the report (0: none)"}

struct tune_samples;
/* Up to n prompts, spread over every each-th row of held: a row's ids up to the first that is learnt; and their likeliest answers by the model as it is now.
 * *out is NULL where there are none, which is fine below.  After tune_start; held must stay. */
int  tune_samples_before(struct tune *t, const struct dan_sft_data *held, size_t each, int64_t n, struct tune_samples **out, struct dan_err *e);
int  tune_samples_after(struct tune_samples *s, struct dan_err *e);                       /* their answers now; before adapters are merged */
/* "samples" of the report, and a few lines of its text. */
int  tune_samples_report(const struct tune_samples *s, json_t *report, struct dan_str *text, struct dan_err *e);
void tune_samples_free(struct tune_samples *s);

#endif
