/* What commands that go on training a model share (finetune, dpo): options, the model with its adapter, the tuner, output. */
#ifndef DAN_CLI_TUNE_H
#define DAN_CLI_TUNE_H
#include "align/tuner.h"
#include "cli/lm_open.h"
#include "cli/trace.h"
#include "text/chat_template.h"
#include "train/schedule.h"

struct tune_opts {
    const char *model, *out, *template, *schedule, *optimizer, *dtype, *fusion, *lora_targets, *lora_layers;
    struct dan_strings data;
    int64_t steps, batch, context, rows, warmup, lora_rank;
    double  epochs, lr, min_lr, weight_decay, beta1, beta2, eps, clip, val_fraction, lora_alpha;
    bool    rslora, merge, remat;
};
const char *tune_optim_name(size_t i);
const char *tune_schedule_name(size_t i);

#define TUNE_AT(owner, f) offsetof(owner, tune.f)
#define TUNE_DATA_OPTIONS(owner, what)                                                                                                                \
    {.name = "model", .type = 'p', .offset = TUNE_AT(owner, model), .meta = "MODEL", .help = "model folder or file to begin with"},                  \
    {.name = "data", .type = 'S', .offset = TUNE_AT(owner, data), .meta = "PATH", .section = "Data", .required = true, .help = what},                \
    {.name = "template", .type = 's', .offset = TUNE_AT(owner, template), .meta = "NAME|FILE", .alias = "chat-template",                             \
     .help = "chat template (default: the model's, else a built-in one)"},                                                                           \
    {.name = "context", .type = 'i', .offset = TUNE_AT(owner, context), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20,                          \
     .alias = "max-length|max-seq-length|cutoff-len", .help = "longest dialogue in tokens; longer ones are skipped and counted (0: the model's)"},   \
    {.name = "val-fraction", .type = 'f', .offset = TUNE_AT(owner, val_fraction), .dflt = "0.05", .meta = "F", .max = 0.5, .help = "part of the data held out"}
#define TUNE_OPTIM_OPTIONS(owner, epochs_default, lr_help)                                                                                            \
    {.name = "epochs", .type = 'f', .offset = TUNE_AT(owner, epochs), .dflt = epochs_default, .meta = "N", .min = 0, .max = 1e6,                     \
     .alias = "num-train-epochs", .section = "Optimisation", .help = "times through the data (unless --steps)"},                                     \
    {.name = "steps", .type = 'i', .offset = TUNE_AT(owner, steps), .dflt = "0", .meta = "N", .min = 0, .max = 1e9, .alias = "max-steps",            \
     .help = "optimiser steps (0: by --epochs)"},                                                                                                    \
    {.name = "batch", .type = 'i', .offset = TUNE_AT(owner, batch), .dflt = "16", .meta = "N", .min = 1, .max = 1 << 20, .alias = "batch-size",      \
     .help = "rows of data in a step"},                                                                                                              \
    {.name = "lr", .type = 'f', .offset = TUNE_AT(owner, lr), .dflt = "0", .meta = "X", .min = 0, .max = 1000, .alias = "learning-rate", .help = lr_help}, \
    {.name = "min-lr", .type = 'f', .offset = TUNE_AT(owner, min_lr), .dflt = "-1", .meta = "X", .min = -1, .max = 1000,                             \
     .help = "learning rate at the end (-1: lr / 10)"},                                                                                              \
    {.name = "warmup", .type = 'i', .offset = TUNE_AT(owner, warmup), .dflt = "10", .meta = "N", .min = 0, .max = 1e9, .alias = "warmup-steps",      \
     .help = "steps of linear warm-up"},                                                                                                             \
    {.name = "schedule", .type = 'e', .offset = TUNE_AT(owner, schedule), .dflt = "cosine", .choice_at = tune_schedule_name,                         \
     .alias = "lr-scheduler-type|scheduler", .help = "after the warm-up"},                                                                           \
    {.name = "optimizer", .type = 'e', .offset = TUNE_AT(owner, optimizer), .dflt = "adamw", .choice_at = tune_optim_name,                           \
     .alias = "optim|optimiser", .help = "update rule"},                                                                                             \
    {.name = "weight-decay", .type = 'f', .offset = TUNE_AT(owner, weight_decay), .dflt = "0", .meta = "X", .min = 0, .max = 100,                    \
     .help = "decoupled, of matrices"},                                                                                                              \
    {.name = "beta1", .type = 'f', .offset = TUNE_AT(owner, beta1), .dflt = "0.9", .meta = "X", .min = 0, .max = 0.999999, .help = "adamw"},         \
    {.name = "beta2", .type = 'f', .offset = TUNE_AT(owner, beta2), .dflt = "0.999", .meta = "X", .min = 0, .max = 0.9999999, .help = "adamw"},      \
    {.name = "eps", .type = 'f', .offset = TUNE_AT(owner, eps), .dflt = "1e-8", .meta = "X", .min = 0, .max = 1, .help = "adamw"},                   \
    {.name = "clip", .type = 'f', .offset = TUNE_AT(owner, clip), .dflt = "1", .meta = "X", .min = 0, .max = 1e9, .alias = "max-grad-norm",          \
     .help = "largest gradient norm (0: no clipping)"}
#define TUNE_LORA_OPTIONS(owner)                                                                                                                      \
    {.name = "lora-rank", .type = 'i', .offset = TUNE_AT(owner, lora_rank), .dflt = "0", .meta = "R", .min = 0, .max = 65536, .alias = "lora-r|rank", \
     .section = "Adapter", .help = "train an adapter of this rank, the model stays (0: all weights)"},                                               \
    {.name = "lora-alpha", .type = 'f', .offset = TUNE_AT(owner, lora_alpha), .dflt = "0", .meta = "A", .min = 0, .max = 1e6,                        \
     .help = "its scale is A / R (0: A = 2 R)"},                                                                                                     \
    {.name = "lora-targets", .type = 's', .offset = TUNE_AT(owner, lora_targets), .dflt = "all-linear", .meta = "NAMES",                             \
     .alias = "lora-target-modules|lora-target", .help = "all-linear, attn, mlp, or names as q_proj,v_proj"},                                        \
    {.name = "lora-layers", .type = 's', .offset = TUNE_AT(owner, lora_layers), .meta = "FROM-TO", .help = "only these layers, from 0"},             \
    {.name = "rslora", .type = 'b', .offset = TUNE_AT(owner, rslora), .alias = "use-rslora", .help = "scale A / sqrt(R) instead"},                   \
    {.name = "merge", .type = 'b', .offset = TUNE_AT(owner, merge), .help = "write the model with the adapter merged in, not the adapter"}
#define TUNE_MACHINE_OPTIONS(owner)                                                                                                                   \
    {.name = "rows", .type = 'i', .offset = TUNE_AT(owner, rows), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 24, .section = "Machine",          \
     .help = "packed tokens of one run (0: the longest dialogue, at least 1024); memory grows with it"},                                             \
    {.name = "dtype", .type = 'e', .offset = TUNE_AT(owner, dtype), .dflt = "auto", .choices = "auto|f32|bf16",                                      \
     .help = "of matrix products; auto: bf16 where the CPU has it"},                                                                                 \
    {.name = "remat", .type = 'b', .offset = TUNE_AT(owner, remat), .alias = "gradient-checkpointing", .help = "recompute activations to save memory"}, \
    {.name = "fusion", .type = 's', .offset = TUNE_AT(owner, fusion), .dflt = "on", .meta = "on|off|RULE,...",                                       \
     .help = "fusion rules: all, none, only some (swiglu,cse), or all but some (=-swiglu,-cse)"},                                                    \
    {.name = "out", .type = 's', .offset = TUNE_AT(owner, out), .meta = "DIR", .letter = 'o', .section = "Output", .required = true,                 \
     .help = "folder of the adapter (PEFT's layout) or of the model"}

struct tune {
    struct tune_opts o;
    struct dan_cli *cli;
    struct lm_files m;
    struct dan_chat_template chat;
    struct dan_tuner *tuner;
    int64_t longest, steps, rows;              /* tokens of a dialogue; of the optimiser; of a run */
    double  lr;
};
/* Checks --out, opens model, tokenizer and template, sets longest. */
int  tune_open(struct tune *t, struct dan_err *e);
/* Adds the adapter and makes the tuner; needed: ids of the longest sequence. */
int  tune_start(struct tune *t, int64_t needed, struct dan_err *e);
/* Learning rate of a step; t->lr and t->steps are set. */
double tune_lr(const struct tune *t, int64_t step);
/* Appends a line to OUT/log.jsonl; takes j over. */
int  tune_log(struct tune *t, json_t *j, struct dan_err *e);
/* The adapter, or the model. */
int  tune_save(struct tune *t, struct dan_err *e);
/* Writes OUT/report.json and prints the result (as JSON, or `text`); takes j over. */
int  tune_report(struct tune *t, json_t *j, const struct dan_str *text, struct dan_err *e);
void tune_release(struct tune *t);
struct dan_sft_data;
void tune_tell_skipped(struct tune *t, const struct dan_sft_data *d);
void tune_tell_model(struct tune *t);

#endif
