/* A model folder, opened for use: weights, tokenizer, the defaults of generation_config.json, threads. */
#ifndef DAN_CLI_LM_OPEN_H
#define DAN_CLI_LM_OPEN_H
#include "cli/cmd.h"
#include "infer/generate.h"
#include "io/hf_config.h"

struct lm_files {
    const char *dir;
    struct dan_lm lm;
    struct dan_tokenizer *tok;                 /* NULL when it was not asked for */
    bool    own_template;                      /* of an adapter: its folder has the chat template, which is tok's now */
    struct dan_ids prefix;                     /* before every text */
    struct dan_hf_generation gen;
    int32_t eos[DAN_HF_MAX_EOS + 1];           /* generation_config.json's and config.json's */
    size_t  n_eos;
    struct dan_pool *pool;
};
int  lm_open(struct dan_cli *cli, const char *dir, bool tokenizer, struct lm_files *m, struct dan_err *e);
/* The weights again, in own f32 memory, for what learns all of them; from: what lm_open was given.  Where that is an adapter it is merged in: m->dir is its base. */
int  lm_reload_own(struct lm_files *m, const char *from, struct dan_err *e);
void lm_close(struct lm_files *m);
/* What belongs beside a model that lm was made of: from is its folder, from which tokenizer files and the like are copied, or its file, of which the tokenizer is
 * written. */
int  lm_copy_beside(struct dan_cli *cli, const struct dan_lm *lm, const char *from, const char *to, struct dan_err *e);

/* Options that every command that samples has; put LM_SAMPLING_OPTIONS(struct opts, field) in its table. */
struct lm_sampling { double temperature, top_p, min_p, repetition_penalty; int64_t top_k, max_tokens; };
#define LM_SAMPLING_OPTIONS(owner, field, max_tokens_default)                                                                         \
    {.name = "max-tokens", .letter = 'n', .type = 'i', .offset = offsetof(owner, field.max_tokens), .dflt = max_tokens_default,       \
     .meta = "N", .min = 0, .max = INFINITY, .alias = "max-new-tokens|n-predict", .section = "Sampling",                              \
     .help = "new tokens at most (0: until the context is full)"},                                                                    \
    {.name = "temperature", .type = 'f', .offset = offsetof(owner, field.temperature), .dflt = "0.8", .meta = "T", .min = 0, .max = 100,\
     .alias = "temp", .help = "0 takes the likeliest token, 1 samples as the model says"},                                            \
    {.name = "top-k", .type = 'i', .offset = offsetof(owner, field.top_k), .dflt = "0", .meta = "K", .min = 0, .max = INFINITY,       \
     .help = "only the K likeliest tokens (0: off)"},                                                                                 \
    {.name = "top-p", .type = 'f', .offset = offsetof(owner, field.top_p), .dflt = "0.95", .meta = "P", .min = 0, .max = 1,           \
     .help = "only the likeliest tokens that reach probability P (1: off)"},                                                          \
    {.name = "min-p", .type = 'f', .offset = offsetof(owner, field.min_p), .dflt = "0", .meta = "P", .min = 0, .max = 1,              \
     .help = "only tokens at least P times as likely as the likeliest (0: off)"},                                                     \
    {.name = "repetition-penalty", .type = 'f', .offset = offsetof(owner, field.repetition_penalty), .dflt = "1", .meta = "X",        \
     .min = 0.01, .max = 100, .alias = "repeat-penalty", .help = "divides the logits of tokens that occurred (1: off)"}
/* The options; what was not given comes from generation_config.json when that says to sample. */
struct dan_sampling lm_sampling_of(const struct dan_cli *cli, const struct lm_sampling *o, const struct lm_files *m);

#endif
