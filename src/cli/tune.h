/* What commands that go on training a model share (finetune, dpo): options, the model with its adapter, the tuner, output. */
#ifndef DAN_CLI_TUNE_H
#define DAN_CLI_TUNE_H
#include "align/tuner.h"
#include "cli/lm_open.h"
#include "cli/trace.h"
#include "io/runs.h"
#include "text/chat_template.h"
#include "train/qat.h"
#include "train/schedule.h"

struct tune_opts {
    const char *model, *out, *template, *schedule, *optimizer, *dtype, *fusion, *lora_targets, *lora_layers, *qlora;
    struct dan_strings data;
    int64_t steps, batch, context, rows, warmup, lora_rank, save_every, keep;
    double  epochs, lr, min_lr, weight_decay, beta1, beta2, eps, clip, val_fraction, lora_alpha, lora_plus, lora_dropout, neftune;
    bool    rslora, dora, merge, remat, resume;
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
    {.name = "dora", .type = 'b', .offset = TUNE_AT(owner, dora), .alias = "use-dora", .help = "a learned magnitude for every row besides (DoRA)"},  \
    {.name = "lora-plus", .type = 'f', .offset = TUNE_AT(owner, lora_plus), .dflt = "0", .meta = "X", .min = 0, .max = 1000,                         \
     .alias = "loraplus-lr-ratio", .help = "B learns X times as fast as A (LoRA+; 0: alike)"},                                                       \
    {.name = "qlora", .type = 's', .offset = TUNE_AT(owner, qlora), .meta = "FORMAT",                                                                \
     .help = "quantise the base in memory first: nf4, nf4_dq, q8_0, q4_0, ... (head and embeddings stay)"},                                          \
    {.name = "merge", .type = 'b', .offset = TUNE_AT(owner, merge), .help = "write the model with the adapter merged in, not the adapter"}
#define TUNE_NOISE_OPTIONS(owner)                                                                                                                     \
    {.name = "lora-dropout", .type = 'f', .offset = TUNE_AT(owner, lora_dropout), .dflt = "0", .meta = "P", .min = 0, .max = 0.99,                   \
     .help = "zeroes that part of what an adapter reads, in training"},                                                                              \
    {.name = "neftune", .type = 'f', .offset = TUNE_AT(owner, neftune), .dflt = "0", .meta = "ALPHA", .min = 0, .max = 1000,                         \
     .alias = "neftune-noise-alpha", .help = "uniform noise of ALPHA / sqrt(length * hidden) on embeddings, in training (5 to 15; 0: none)"}
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
#define TUNE_RUN_OPTIONS(owner)                                                                                                                       \
    {.name = "resume", .type = 'b', .offset = TUNE_AT(owner, resume), .help = "go on from the newest checkpoint in --out, with its recipe, to the same bytes"}, \
    {.name = "save-every", .type = 'i', .offset = TUNE_AT(owner, save_every), .dflt = "500", .meta = "N", .min = 0, .max = 1e12, .alias = "save-steps", \
     .help = "steps between checkpoints (0: only when stopped)"},                                                                                     \
    {.name = "keep", .type = 'i', .offset = TUNE_AT(owner, keep), .dflt = "2", .meta = "N", .min = 1, .max = 1e6, .alias = "save-total-limit", .help = "checkpoints to keep"}

struct dan_sft_data;
struct tune_part { struct dan_tuner *tuner; const struct dan_lm *lm; const char *prefix; };   /* what a checkpoint holds: one or more tuners; prefix of their names */

struct tune {
    struct tune_opts o;
    struct dan_cli *cli;
    struct lm_files m;
    struct dan_chat_template chat;
    struct dan_tuner *tuner;
    struct dan_qat_opts qat;                   /* set before tune_open; off: floats */
    size_t  base_before;                       /* --qlora: bytes of the weights before they were quantised */
    int64_t longest, steps, rows;              /* tokens of a dialogue; of the optimiser; of a run */
    double  lr, ema, temperature;              /* ema: of the weights, what is kept a step, 0: none; temperature: of the log-probabilities, 0: 1 */
    enum dan_head head;                        /* of the tuner; a score head that the model lacks is added by tune_start, to the adapter where there is one */
    const char *try_it;                        /* the command that tune_report names with the folder; NULL: chat */
    bool    no_template;                       /* texts as they are: the template is not looked at */
    bool    keeps_template;                    /* chat is not what the base's tokenizer says: it is saved with the result */
    int64_t now;                               /* for templates that know the date: the same when a run goes on */
    /* of checkpoints (tune_resume.c) */
    const void *all;                           /* the command's options, which recipe.json is written from */
    const struct tune_part *part;
    size_t  n_parts;
    struct dan_store *saved;                   /* of the checkpoint that goes on; NULL: none */
    json_t *state, *extra;                     /* its state; what the command gave */
    int64_t first_step, last_saved;
    uint32_t data_crc, model_crc;
    struct dan_runs *runs;                     /* of the database (tune_runs.c); NULL: not in it */
    struct dan_run record;
    int64_t run_id;
    int     lock;                              /* of OUT (base/lock.h) */
};
/* The run's row in the runs database: by tune_begin, tune_log and tune_report (a line of the log, the report), and tune_release (status: finished, interrupted, failed). */
void tune_runs_start(struct tune *t);
void tune_runs_line(struct tune *t, const json_t *line);
void tune_runs_end(struct tune *t, const char *status);
/* With --resume: the options that the command line does not give come from OUT/recipe.json; one that cannot change in a run that goes on is refused.
 * opts: the command's own options, of which o is the part of this header.  The first thing that run() does. */
int  tune_recipe(struct dan_cli *cli, void *opts, struct tune_opts *o, struct dan_err *e);
/* Opens the newest checkpoint and sets t->now; by tune_open. */
int  tune_find_checkpoint(struct tune *t, struct dan_err *e);
/* All data that a step depends on, in the order it is read: a run goes on only with the same. */
void tune_fingerprint(struct tune *t, const struct dan_sft_data *d);
void tune_fingerprint_bytes(struct tune *t, const void *bytes, size_t n);
void tune_fingerprint_model(struct tune *t);   /* by tune_start, before adapters are added */
/* After everything that depends on the model as it was opened (references, measurements before), just before the first step: a new run writes recipe.json; one that
 * goes on takes weights, optimiser state and steps of the parts from the checkpoint, and cuts log.jsonl to them.  Sets first_step and extra.  parts must live as long as t. */
int  tune_begin(struct tune *t, const struct tune_part *parts, size_t n, struct dan_err *e);
/* After step number `step` (from 1): a checkpoint where one is due.  extra: what the command needs to go on (NULL: nothing), taken over. */
int  tune_step_done(struct tune *t, int64_t step, json_t *extra, struct dan_err *e);
/* When cli->stop is seen: a checkpoint, and DAN_ECANCELLED with how to go on. */
int  tune_interrupted(struct tune *t, int64_t step, json_t *extra, struct dan_err *e);
void tune_resume_release(struct tune *t);      /* by tune_release */
/* Checks --out, opens model, tokenizer and template, sets longest. */
int  tune_open(struct tune *t, struct dan_err *e);
/* Adds the adapter and makes the tuner; needed: ids of the longest sequence. */
int  tune_start(struct tune *t, int64_t needed, struct dan_err *e);
/* The same in parts, for commands with more models: what the options say of a tuner (after tune_start), of products; an adapter (none without --lora-rank). */
struct dan_tuner_opts tune_tuner_opts(const struct tune *t);
enum dan_prec tune_precision(const struct tune *t);
int  tune_add_adapter(const struct tune *t, struct dan_lm *lm, const char *name, struct dan_err *e);
/* Learning rate of a step; t->lr and t->steps are set. */
double tune_lr(const struct tune *t, int64_t step);
/* Appends a line to OUT/log.jsonl; takes j over. */
int  tune_log(struct tune *t, json_t *j, struct dan_err *e);
/* The adapter, or the model. */
int  tune_save(struct tune *t, struct dan_err *e);
/* Writes OUT/report.json and OUT/report.html (with the report's "samples") and prints the result (as JSON, or `text`); takes j over. */
int  tune_report(struct tune *t, json_t *j, const struct dan_str *text, struct dan_err *e);
void tune_release(struct tune *t);
void tune_tell_model(struct tune *t);

/* What belongs beside the model in DIR: the base's tokenizer and the like, with the template that learnt. */
int  tune_copy_beside(struct tune *t, const char *to, struct dan_err *e);

/* tune_adapters.c: what adapters ask of the base, and what is written beside them. */
int  tune_check_adapters(const struct tune *t, struct dan_err *e);       /* options that go together */
int  tune_quantise_base(struct tune *t, struct dan_err *e);              /* --qlora */
/* --qat: OUT/quantised, the model (with the adapter merged in) as integers. */
int  tune_save_integers(struct tune *t, struct dan_err *e);
void tune_tell_adapters(const struct tune *t);
void tune_report_adapters(const struct tune *t, json_t *j);

#endif
