/* What commands share that learn from answers which the model gives itself (grpo, ppo, best): options, prompts, rewards, answers, what is held out. */
#ifndef DAN_CLI_RL_OPTIONS_H
#define DAN_CLI_RL_OPTIONS_H
#include "align/dynamic.h"
#include "align/rewards.h"
#include "align/sft.h"
#include "cli/tune.h"

struct rl_opts {
    struct dan_strings reward, forget;
    double  temperature, top_p, missing_eos_penalty;
    int64_t top_k, max_new, streams, eval_prompts, overlong;
    bool    raw;
};

#define RL_AT(owner, f) offsetof(owner, rl.f)
#define RL_ANSWER_OPTIONS(owner, max_new_default)                                                                                                      \
    {.name = "reward", .type = 'S', .offset = RL_AT(owner, reward), .meta = "SPEC[:WEIGHT]", .section = "Answers and rewards", .required = true,      \
     .alias = "reward-funcs|reward-model", .help = "number, exact, regex:PATTERN, think, length:LO-HI, repetition:N, lexicon:FILE, model:DIR, command:PROGRAM; several are added up"}, \
    {.name = "max-new", .type = 'i', .offset = RL_AT(owner, max_new), .dflt = max_new_default, .meta = "N", .min = 1, .max = 1 << 20,                 \
     .alias = "max-new-tokens|max-completion-length|response-length", .help = "tokens of an answer at most; if not given, no more than half the context"}, \
    {.name = "temperature", .type = 'f', .offset = RL_AT(owner, temperature), .dflt = "1", .meta = "T", .min = 0.01, .max = 100,                      \
     .help = "of sampling, and of the log-probabilities that learn"},                                                                                 \
    {.name = "top-k", .type = 'i', .offset = RL_AT(owner, top_k), .dflt = "0", .meta = "K", .min = 0, .max = INFINITY,                                \
     .help = "sample from the K likeliest tokens (0: off, as the equations want it)"},                                                                \
    {.name = "top-p", .type = 'f', .offset = RL_AT(owner, top_p), .dflt = "1", .meta = "P", .min = 0, .max = 1,                                       \
     .help = "sample from the likeliest tokens that reach probability P (1: off)"},                                                                   \
    {.name = "raw", .type = 'b', .offset = RL_AT(owner, raw), .help = "no chat template: a prompt is the beginning of a text (rows with 'text' always are)"}, \
    {.name = "missing-eos-penalty", .type = 'f', .offset = RL_AT(owner, missing_eos_penalty), .dflt = "0", .meta = "X", .min = 0, .max = 1e6,         \
     .help = "taken off the reward of an answer that did not end"},                                                                                   \
    {.name = "overlong-buffer", .type = 'i', .offset = RL_AT(owner, overlong), .dflt = "0", .meta = "L", .min = 0, .max = 1 << 20,                    \
     .alias = "overlong-buffer-len", .help = "in the last L tokens before --max-new an answer's reward falls by up to 1 (DAPO; 0: off)"},             \
    {.name = "streams", .type = 'i', .offset = RL_AT(owner, streams), .dflt = "64", .meta = "N", .min = 1, .max = 4096, .help = "answers that are sampled at the same time"}
#define RL_EVAL_OPTIONS(owner)                                                                                                                         \
    {.name = "eval-prompts", .type = 'i', .offset = RL_AT(owner, eval_prompts), .dflt = "64", .meta = "N", .min = 0, .max = 1 << 20,                  \
     .help = "held-out prompts at most, answered before and after"},                                                                                  \
    {.name = "forget-eval", .type = 'S', .offset = RL_AT(owner, forget), .meta = "PATH", .help = "plain text whose loss is measured before and after"}

struct rl_held { struct dan_rollouts said; double *score, mean, error, ended, tokens; int64_t n; };   /* held-out answers; mean and standard error of those with a reward */

struct rl {
    struct tune *t;
    const struct rl_opts *o;
    struct dan_prompts prompts, held;
    struct dan_rewards rewards;
    struct dan_rollout *rollout;
    struct dan_ids stop;
    struct dan_sft_data text;                  /* of --forget-eval */
    struct dan_packed pack;                    /* t->rows rows */
    double *text_before, *text_after;          /* mean loss of each window */
    struct rl_held before, after;
    struct lm_files ref_model;                 /* the model as it was, where all weights learn */
    struct dan_tuner *ref;                     /* NULL: no reference */
    int64_t *order, epoch;
    int64_t rounds, asked;                     /* of dynamic sampling, set before rl_start, 0: off; prompts that rl_groups has had for the steps that are done */
    const struct dan_prompt **batch;           /* [t->o.batch], of copies: a prompt that comes again has other random numbers */
    struct dan_prompt *copy;                   /* [rounds][t->o.batch] */
};
/* After tune_open: rewards, prompts (told, and counted into the run's fingerprint), text of --forget-eval.  Sets t->temperature and, where it is not given,
 * o->max_new. */
int  rl_open(struct rl *r, struct tune *t, struct rl_opts *o, struct dan_err *e);
/* Ids of the longest sequence: for tune_start. */
int64_t rl_needed(const struct rl *r);
/* What answers: the model's weights as they are, or fixed. */
int  rl_start_answers(struct rl *r, enum dan_prec prec, bool fixed, struct dan_err *e);
/* After tune_start: what answers, and with `reference` what the model was. */
int  rl_start(struct rl *r, bool reference, struct dan_err *e);
void rl_release(struct rl *r);
/* Steps by --steps or --epochs; the learning rate. */
void rl_plan(struct rl *r, double lr_adapter, double lr_full);
/* samples answers to each prompt of step number `step`; total [n] and each [rewards][n] are the caller's to free.  Penalties are in total. */
int  rl_answers(struct rl *r, int64_t step, int64_t samples, struct dan_rollouts *said, double **total, double **each, struct dan_err *e);
/* Groups of answers to learn from in step number `step`, from the prompts behind r->asked on, which the caller moves on when the step is done. */
int  rl_groups(struct rl *r, int64_t step, int64_t samples, struct dan_groups *out, struct dan_err *e);
/* Rewards, less the penalties for answers that did not end or are nearly too long. */
int  rl_score(struct rl *r, const struct dan_rollouts *said, double *total, double *each, struct dan_err *e);
/* Held-out prompts, and the loss on --forget-eval: before or after learning. */
int  rl_measure(struct rl *r, bool after, struct dan_err *e);
/* Adds "eval_reward", "forgetting", "samples" to the report and its text; writes OUT/samples.jsonl. */
int  rl_report(struct rl *r, json_t *report, struct dan_str *text, struct dan_err *e);
/* An error in a step: where the run can go on from its last step, a checkpoint is written and the message says so.  extra is taken over. */
int  rl_failed(struct rl *r, int rc, int64_t step, json_t *extra, struct dan_err *e);
/* "reward", "reward_std" and "frac_reward_zero_std" of groups, "rewards/NAME/mean" and "/std", "completions/...": TRL's names. */
void rl_log_answers(const struct rl *r, json_t *j, const struct dan_rollouts *said, const double *total, const double *each);

#endif
