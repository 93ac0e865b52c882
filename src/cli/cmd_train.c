/* danlu train: pre-training of a language model from text. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/train_run.h"

#define AT(f) offsetof(struct train_opts, f)
static const char *model_name(size_t i) { return dan_models[i] ? dan_models[i]->name : NULL; }
static const char *optim_name(size_t i) { return dan_optims[i] ? dan_optims[i]->name : NULL; }
static const char *schedule_name(size_t i) { return dan_schedules[i] ? dan_schedules[i]->name : NULL; }

static const struct dan_opt options[] = {
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .section = "Data", .help = "text files, .jsonl files or folders"},
    {.name = "val-fraction", .type = 'f', .offset = AT(val_fraction), .dflt = "0.1", .meta = "F", .max = 0.5, .help = "part of the text held out for validation"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "field of .jsonl rows that holds the text"},
    {.name = "allow-invalid", .type = 'b', .offset = AT(allow_invalid), .help = "accept invalid UTF-8 (tokenizers bytes and bpe keep every byte)"},
    {.name = "tokenizer", .type = 's', .offset = AT(tokenizer), .dflt = "bpe", .meta = "char|bytes|bpe|PATH", .help = "kind to train, or the folder of an existing one"},
    {.name = "vocab", .type = 'i', .offset = AT(vocab), .dflt = "2048", .meta = "N", .min = 257, .max = 1 << 20, .alias = "vocab-size", .help = "size of a bpe vocabulary"},
    {.name = "model", .type = 'e', .offset = AT(model), .dflt = "llama", .choice_at = model_name, .section = "Model", .help = "family"},
    {.name = "layers", .type = 'i', .offset = AT(layers), .dflt = "4", .meta = "N", .min = 1, .max = 1000, .alias = "n-layer|num-layers|depth", .help = "layers"},
    {.name = "hidden", .type = 'i', .offset = AT(hidden), .dflt = "128", .meta = "N", .min = 1, .max = 65536, .alias = "hidden-size|n-embd|dim|width", .help = "hidden size"},
    {.name = "heads", .type = 'i', .offset = AT(heads), .dflt = "4", .meta = "N", .min = 1, .max = 1024, .alias = "n-head|num-heads", .help = "attention heads"},
    {.name = "kv-heads", .type = 'i', .offset = AT(kv_heads), .dflt = "0", .meta = "N", .min = 0, .max = 1024, .help = "key/value heads (0: as many as heads)"},
    {.name = "ffn", .type = 'i', .offset = AT(ffn), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20, .alias = "intermediate-size", .help = "feed-forward size (0: the family's rule)"},
    {.name = "context", .type = 'i', .offset = AT(context), .dflt = "128", .meta = "N", .min = 1, .max = 1 << 20, .alias = "block-size|seq-len|context-length|max-length", .help = "context length in tokens"},
    {.name = "tied", .type = 'b', .offset = AT(tied), .dflt = "true", .help = "output head shares the token embedding"},
    {.name = "bias", .type = 'b', .offset = AT(bias), .dflt = "true", .help = "biases in linear layers and norms (gpt)"},
    {.name = "init", .type = 's', .offset = AT(init), .meta = "MODEL", .alias = "from|init-from", .help = "begin with the weights, shape and tokenizer of a model"},
    {.name = "init-std", .type = 'f', .offset = AT(init_std), .dflt = "0", .meta = "X", .min = 0, .max = 10, .help = "deviation of fresh weights (0: by hidden size)"},
    {.name = "steps", .type = 'i', .offset = AT(steps), .dflt = "1000", .meta = "N", .min = 1, .max = 1e12, .alias = "max-steps|iters|max-iters", .section = "Optimisation", .help = "optimiser steps"},
    {.name = "batch", .type = 'i', .offset = AT(batch), .dflt = "16", .meta = "N", .min = 1, .max = 1 << 20, .alias = "batch-size", .help = "sequences of a micro-batch"},
    {.name = "accumulate", .type = 'i', .offset = AT(accumulate), .dflt = "1", .meta = "N", .min = 1, .max = 1 << 20, .alias = "gradient-accumulation-steps", .help = "micro-batches of a step"},
    {.name = "lr", .type = 'f', .offset = AT(lr), .dflt = "1e-3", .meta = "X", .min = 0, .max = 1000, .alias = "learning-rate", .help = "peak learning rate"},
    {.name = "min-lr", .type = 'f', .offset = AT(min_lr), .dflt = "-1", .meta = "X", .min = -1, .max = 1000, .help = "learning rate at the end (-1: lr / 10)"},
    {.name = "warmup", .type = 'i', .offset = AT(warmup), .dflt = "100", .meta = "N", .min = 0, .max = 1e12, .alias = "warmup-steps|warmup-iters", .help = "steps of linear warm-up"},
    {.name = "schedule", .type = 'e', .offset = AT(schedule), .dflt = "cosine", .choice_at = schedule_name, .alias = "lr-schedule|scheduler", .help = "after the warm-up"},
    {.name = "decay-fraction", .type = 'f', .offset = AT(decay_fraction), .dflt = "0.2", .meta = "F", .min = 0, .max = 1, .help = "wsd: part of the steps that decays"},
    {.name = "optimizer", .type = 'e', .offset = AT(optimizer), .dflt = "adamw", .choice_at = optim_name, .alias = "optim|optimiser", .help = "update rule"},
    {.name = "weight-decay", .type = 'f', .offset = AT(weight_decay), .dflt = "0.1", .meta = "X", .min = 0, .max = 100, .help = "decoupled, of tensors with two or more dimensions"},
    {.name = "beta1", .type = 'f', .offset = AT(beta1), .dflt = "0.9", .meta = "X", .min = 0, .max = 0.999999, .help = "adamw"},
    {.name = "beta2", .type = 'f', .offset = AT(beta2), .dflt = "0.99", .meta = "X", .min = 0, .max = 0.9999999, .help = "adamw"},
    {.name = "eps", .type = 'f', .offset = AT(eps), .dflt = "1e-8", .meta = "X", .min = 0, .max = 1, .help = "adamw"},
    {.name = "momentum", .type = 'f', .offset = AT(momentum), .dflt = "0.9", .meta = "X", .min = 0, .max = 0.9999999, .help = "sgd"},
    {.name = "nesterov", .type = 'b', .offset = AT(nesterov), .help = "sgd: Nesterov's form"},
    {.name = "clip", .type = 'f', .offset = AT(clip), .dflt = "1", .meta = "X", .min = 0, .max = 1e9, .alias = "grad-clip|max-grad-norm", .help = "largest gradient norm (0: no clipping)"},
    {.name = "dropout", .type = 'f', .offset = AT(dropout), .dflt = "0", .meta = "P", .min = 0, .max = 0.95, .help = "on embeddings and residual branches"},
    {.name = "ema", .type = 'f', .offset = AT(ema), .dflt = "0", .meta = "X", .min = 0, .max = 0.999999, .help = "moving average of the weights, evaluated and saved (0: off)"},
    DAN_QAT_OPTIONS(struct train_opts, qat),
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "auto", .choices = "auto|f32|bf16", .section = "Machine", .help = "of matrix products; auto: bf16 where the CPU has it, f32 with --qat"},
    {.name = "remat", .type = 'b', .offset = AT(remat), .alias = "gradient-checkpointing|activation-checkpointing", .help = "recompute activations to save memory"},
    DAN_FUSION_OPTION(struct train_opts),
    {.name = "memory-limit", .type = 'f', .offset = AT(memory_limit), .dflt = "0", .meta = "GIB", .min = 0, .max = 1e6, .help = "refuse to start above this (0: what the machine has)"},
    {.name = "dump-after", .type = 's', .offset = AT(dump_after), .meta = "PASS|all", .help = "print the graph after a pass"},
    {.name = "graph", .type = 'b', .offset = AT(graph), .help = "print the final training graph and stop"},
    {.name = "out", .type = 's', .offset = AT(out), .dflt = "runs/model", .meta = "DIR", .letter = 'o', .section = "Output", .help = "folder of the model and the run"},
    {.name = "resume", .type = 'b', .offset = AT(resume), .help = "go on from the newest checkpoint in --out, with its recipe"},
    {.name = "eval-every", .type = 'i', .offset = AT(eval_every), .dflt = "250", .meta = "N", .min = 0, .max = 1e12, .alias = "eval-interval", .help = "steps between validations (0: only at the end)"},
    {.name = "eval-batches", .type = 'i', .offset = AT(eval_batches), .dflt = "0", .meta = "N", .min = 0, .max = 1e12, .help = "batches of a validation (0: the whole split)"},
    {.name = "save-every", .type = 'i', .offset = AT(save_every), .dflt = "500", .meta = "N", .min = 0, .max = 1e12, .help = "steps between checkpoints (0: only when stopped)"},
    {.name = "keep", .type = 'i', .offset = AT(keep), .dflt = "2", .meta = "N", .min = 1, .max = 1e6, .help = "checkpoints to keep"},
    {.name = "patience", .type = 'i', .offset = AT(patience), .dflt = "0", .meta = "N", .min = 0, .max = 1e9, .help = "early stopping: validations without improvement (0: off); the best weights are saved"},
    DAN_TRACE_OPTIONS(struct train_opts),
    {.name = NULL}};

/* What a run cannot change: its text and vocabulary are on disk, its weights and optimiser state have their shapes. */
static const char *const fixed[] = {"data",    "val-fraction", "field",  "allow-invalid", "tokenizer", "vocab",
                                    "model",   "layers",       "hidden", "heads",         "kv-heads",  "ffn",
                                    "context", "tied",         "bias",   "optimizer",     "init",      DAN_QAT_FIXED, NULL};
/* What changes no weight. */
static const char *const harmless[] = {"remat",        "memory-limit", "dump-after", "graph",    "trace", "eval-every",
                                       "eval-batches", "save-every",   "keep",       "patience", NULL};

static bool listed(const char *const *list, const char *name)
{
    while (*list && strcmp(*list, name)) list++;
    return *list != NULL;
}

/* An option of the command line that differs from the run's recipe is refused or said. */
static int compare_option(struct train_run *r, const char *name, const json_t *now, const json_t *was, struct dan_err *e)
{
    char *a = now ? json_dumps(now, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL,
         *b = was ? json_dumps(was, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL;
    int rc = DAN_OK;
    bool same = a && b ? strcmp(a, b) == 0 : !a && !b;
    bool no_ema = strcmp(name, "ema") == 0 && (json_number_value(now) > 0) != (json_number_value(was) > 0);
    if (!same && (no_ema || listed(fixed, name)))
        rc = dan_fail(e, DAN_EUSAGE,
                      "--%s %s cannot change in a run that goes on (it was %s); leave it out, or start a new run with another --out", name,
                      a ? a : "", b ? b : "not set");
    else if (!same && !listed(harmless, name))
        dan_say(&r->cli->ui, "resume   with --%s %s instead of %s: the weights will differ from those of a run without the change", name,
                a ? a : "", b ? b : "nothing");
    dan_free(a);
    dan_free(b);
    return rc;
}

static int compare_recipe(struct train_run *r, const char *file, struct dan_err *e)
{
    char *text = NULL;
    size_t n = 0;
    int rc = dan_read_file(file, &text, &n, e);
    if (rc) return rc;
    json_t *was = json_loadb(text, n, 0, NULL), *now = dan_options_to_json(r->cli, r->cli->cmd, &r->o);
    for (int i = 0; was && now && options[i].name && !rc; i++) {
        const char *name = options[i].name;
        if (r->cli->origin[i] != DAN_FROM_COMMAND || strcmp(name, "resume") == 0 || strcmp(name, "out") == 0) continue;
        rc = compare_option(r, name, json_object_get(now, name), json_object_get(was, name), e);
    }
    json_decref(was);
    json_decref(now);
    dan_free(text);
    return rc;
}

/* --resume needs only --out: the rest comes from the run's own recipe; what the command line says wins. */
static int own_recipe(struct train_run *r, struct dan_err *e)
{
    const char *file = train_path(r, "recipe.json"), *out = r->o.out;
    if (!r->o.resume) return DAN_OK;
    if (!dan_path_exists(file))
        return dan_fail(e, DAN_EIO, "there is no run in '%s' to resume; check --out, or start without --resume", r->o.out);
    int rc = compare_recipe(r, file, e);
    if (!rc) rc = dan_recipe_apply(r->cli, r->cli->cmd, &r->o, file, e);
    r->o.out = out;                            /* the folder may have been moved */
    r->o.resume = true;                        /* the recipe is of a run that began without */
    return rc;
}

static int check_out(struct train_run *r, struct dan_err *e)
{
    if (r->o.resume) return DAN_OK;
    const char *marks[] = {"checkpoints", "log.jsonl", "model.safetensors"};
    for (int i = 0; i < 3; i++)
        if (dan_path_exists(train_path(r, marks[i])))
            return dan_fail(e, DAN_EINVAL, "'%s' already holds a run (%s); continue it with --resume, or choose another --out", r->o.out,
                            marks[i]);
    return DAN_OK;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct train_run *r = dan_arena_alloc(cli->arena, sizeof *r);
    if (!r) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    r->cli = cli;
    r->o = *(const struct train_opts *)opts;
    int rc = own_recipe(r, e);
    if (!rc && !r->o.data.n && !r->o.resume) rc = dan_fail(e, DAN_EUSAGE, "no text to train on; give --data FILE or --data FOLDER");
    if (!rc) rc = check_out(r, e);
    if (!rc) rc = train_prepare(r, e);
    if (!rc && !r->o.graph) rc = train_loop(r, e);
    train_release(r);
    return rc;
}

const struct dan_cmd dan_cmd_train = {
    .name = "train", .doc = "train a language model on text", .group = DAN_GROUP_TRAIN,
    .about = "Trains a tokenizer (unless one is given), cuts the text into token shards, trains, and writes a model folder in the\n"
             "Hugging Face layout.  Ctrl-C writes a checkpoint; --resume goes on to the same bytes.\n"
             "With --qat products train with rounded weights and inputs; the folder then holds the float weights, and OUT/quantised the\n"
             "same model as integers, which computes what the last validation computed.",
    .example = "danlu train --data book.txt --model gpt --steps 500 --out runs/book\ndanlu train --resume --out runs/book\n"
               "danlu train --data book.txt --init runs/book --qat w4a8 --steps 200 --lr 3e-4 --out runs/book-w4",
    .opts = options, .opts_bytes = sizeof(struct train_opts), .run = run};
