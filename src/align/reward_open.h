/* A trained reward model, opened to score answers.
 *
 * DIR is what `danlu reward` writes: a model with a score head, or an adapter in PEFT's layout whose base is one without.  Its config.json (or
 * adapter_config.json) may have "reward_bias", which is added to every value: the mean reward of the data it learnt from is then 0. */
#ifndef DAN_ALIGN_REWARD_OPEN_H
#define DAN_ALIGN_REWARD_OPEN_H
#include "align/reward_model.h"
#include "model/lm.h"
#include "text/chat_template.h"

struct dan_rm_open_opts {
    struct dan_pool *pool;                     /* must outlive it; NULL: one thread */
    uint64_t cpu_mask;
    const char *template;                      /* instead of DIR's */
    int64_t context;                           /* longest answer with its prompt; 0: the model's */
    enum dan_prec prec;
    int64_t now;                               /* for templates that ask for the date */
};
struct dan_rm_scorer {
    struct dan_lm lm;
    struct dan_tokenizer *tok;
    struct dan_chat_template chat;
    struct dan_ids prefix;
    struct dan_tuner *tuner;
    struct dan_tuner_opts tuning;              /* its options; max_rows grows with what is scored */
    struct dan_pool *pool;
    struct dan_packed pack;
    double  bias;
    int64_t longest, now;
};
int  dan_rm_open(const char *dir, const struct dan_rm_open_opts *o, struct dan_rm_scorer *out, struct dan_err *e);
void dan_rm_close(struct dan_rm_scorer *s);
/* For reading data that it scores. */
struct dan_sft_data_opts dan_rm_data_opts(const struct dan_rm_scorer *s);
/* reward[n] of rows that dan_valued_row made: value + bias. */
int  dan_rm_score(struct dan_rm_scorer *s, const struct dan_sft_row *const *row, size_t n, double *reward, struct dan_err *e);
/* The rows of prompt + text without any template, as a policy reads texts: the model's own beginning, prompt, text, and eos where it has ended. */
int  dan_rm_text_row(const struct dan_rm_scorer *s, const char *prompt, const char *text, size_t n, bool ended, struct dan_sft_row *out, struct dan_err *e);

/* A template that writes what messages say and nothing else; with_bos: bos first. */
const char *dan_rm_raw_template(bool with_bos);

#endif
