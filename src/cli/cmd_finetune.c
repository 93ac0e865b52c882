/* danlu finetune: supervised fine-tuning, of all weights or through a low-rank adapter. */
#include <string.h>
#include "base/file.h"
#include "cli/finetune.h"
#include "cli/trace.h"

#define AT(f) offsetof(struct finetune_opts, f)
static const char *optim_name(size_t i) { return dan_optims[i] ? dan_optims[i]->name : NULL; }
static const char *schedule_name(size_t i) { return dan_schedules[i] ? dan_schedules[i]->name : NULL; }

static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder or file to begin with"},
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .section = "Data", .required = true, .help = "dialogues: .jsonl or .json files or folders (messages, ShareGPT, Alpaca, prompt + completion, text)"},
    {.name = "template", .type = 's', .offset = AT(template), .meta = "NAME|FILE", .alias = "chat-template", .help = "chat template (default: the model's, else a built-in one)"},
    {.name = "learn", .type = 'e', .offset = AT(learn), .dflt = "all", .choices = "all|last", .help = "turns of the assistant that are learnt: all, or each dialogue's last"},
    {.name = "context", .type = 'i', .offset = AT(context), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20, .alias = "max-length|max-seq-length|cutoff-len", .help = "longest dialogue in tokens; longer ones are skipped and counted (0: the model's context)"},
    {.name = "val-fraction", .type = 'f', .offset = AT(val_fraction), .dflt = "0.05", .meta = "F", .max = 0.5, .help = "part of the dialogues held out"},
    {.name = "replay", .type = 's', .offset = AT(replay), .meta = "PATH:F", .help = "plain text that is mixed in as fraction F of the learnt tokens, against forgetting"},
    {.name = "forget-eval", .type = 'S', .offset = AT(forget), .meta = "PATH", .help = "plain text whose loss is measured before and after"},
    {.name = "epochs", .type = 'f', .offset = AT(epochs), .dflt = "3", .meta = "N", .min = 0, .max = 1e6, .alias = "num-train-epochs", .section = "Optimisation", .help = "times through the data (unless --steps)"},
    {.name = "steps", .type = 'i', .offset = AT(steps), .dflt = "0", .meta = "N", .min = 0, .max = 1e9, .alias = "max-steps", .help = "optimiser steps (0: by --epochs)"},
    {.name = "batch", .type = 'i', .offset = AT(batch), .dflt = "16", .meta = "N", .min = 1, .max = 1 << 20, .alias = "batch-size", .help = "dialogues of a step"},
    {.name = "rows", .type = 'i', .offset = AT(rows), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 24, .help = "packed tokens of one run (0: the longest dialogue, at least 1024); memory grows with it"},
    {.name = "lr", .type = 'f', .offset = AT(lr), .dflt = "0", .meta = "X", .min = 0, .max = 1000, .alias = "learning-rate", .help = "peak learning rate (0: 2e-4 for adapters, 2e-5 for all weights)"},
    {.name = "min-lr", .type = 'f', .offset = AT(min_lr), .dflt = "-1", .meta = "X", .min = -1, .max = 1000, .help = "learning rate at the end (-1: lr / 10)"},
    {.name = "warmup", .type = 'i', .offset = AT(warmup), .dflt = "10", .meta = "N", .min = 0, .max = 1e9, .alias = "warmup-steps", .help = "steps of linear warm-up"},
    {.name = "schedule", .type = 'e', .offset = AT(schedule), .dflt = "cosine", .choice_at = schedule_name, .alias = "lr-scheduler-type|scheduler", .help = "after the warm-up"},
    {.name = "optimizer", .type = 'e', .offset = AT(optimizer), .dflt = "adamw", .choice_at = optim_name, .alias = "optim|optimiser", .help = "update rule"},
    {.name = "weight-decay", .type = 'f', .offset = AT(weight_decay), .dflt = "0", .meta = "X", .min = 0, .max = 100, .help = "decoupled, of matrices"},
    {.name = "beta1", .type = 'f', .offset = AT(beta1), .dflt = "0.9", .meta = "X", .min = 0, .max = 0.999999, .help = "adamw"},
    {.name = "beta2", .type = 'f', .offset = AT(beta2), .dflt = "0.999", .meta = "X", .min = 0, .max = 0.9999999, .help = "adamw"},
    {.name = "eps", .type = 'f', .offset = AT(eps), .dflt = "1e-8", .meta = "X", .min = 0, .max = 1, .help = "adamw"},
    {.name = "clip", .type = 'f', .offset = AT(clip), .dflt = "1", .meta = "X", .min = 0, .max = 1e9, .alias = "max-grad-norm", .help = "largest gradient norm (0: no clipping)"},
    {.name = "lora-rank", .type = 'i', .offset = AT(lora_rank), .dflt = "0", .meta = "R", .min = 0, .max = 65536, .alias = "lora-r|rank", .section = "Adapter", .help = "train an adapter of this rank, the model stays (0: all weights)"},
    {.name = "lora-alpha", .type = 'f', .offset = AT(lora_alpha), .dflt = "0", .meta = "A", .min = 0, .max = 1e6, .help = "its scale is A / R (0: A = 2 R)"},
    {.name = "lora-targets", .type = 's', .offset = AT(lora_targets), .dflt = "all-linear", .meta = "NAMES", .alias = "lora-target-modules|lora-target", .help = "all-linear, attn, mlp, or names as q_proj,v_proj"},
    {.name = "lora-layers", .type = 's', .offset = AT(lora_layers), .meta = "FROM-TO", .help = "only these layers, from 0"},
    {.name = "rslora", .type = 'b', .offset = AT(rslora), .alias = "use-rslora", .help = "scale A / sqrt(R) instead"},
    {.name = "merge", .type = 'b', .offset = AT(merge), .help = "write the model with the adapter merged in, not the adapter"},
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "auto", .choices = "auto|f32|bf16", .section = "Machine", .help = "of matrix products; auto: bf16 where the CPU has it"},
    {.name = "remat", .type = 'b', .offset = AT(remat), .alias = "gradient-checkpointing", .help = "recompute activations to save memory"},
    DAN_FUSION_OPTION(struct finetune_opts),
    {.name = "out", .type = 's', .offset = AT(out), .meta = "DIR", .letter = 'o', .section = "Output", .required = true, .help = "folder of the adapter (PEFT's layout) or of the model"},
    {.name = NULL}};

const char *finetune_path(struct finetune *f, const char *name)
{
    struct dan_str path = {0};
    dan_str_printf(&path, "%s/%s", f->o.out, name);
    const char *kept = dan_arena_strdup(f->cli->arena, dan_str_c(&path));
    dan_str_release(&path);
    return kept ? kept : "";
}

static int check_out(struct finetune *f, struct dan_err *e)
{
    static const char *const marks[] = {"adapter_config.json", "model.safetensors", "model.safetensors.index.json", "log.jsonl"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (dan_path_exists(finetune_path(f, marks[i])))
            return dan_fail(e, DAN_EINVAL, "'%s' already holds a model or a run (%s); choose another --out, or remove it", f->o.out, marks[i]);
    return f->o.merge && !f->o.lora_rank ? dan_fail(e, DAN_EUSAGE, "--merge needs --lora-rank: without an adapter there is nothing to merge") : DAN_OK;
}

static int work(struct finetune *f, struct dan_err *e)
{
    int rc = check_out(f, e);
    if (!rc) rc = finetune_prepare(f, e);
    if (!rc) rc = finetune_measure(f, &f->val_before, &f->forget_before, e);
    if (!rc) rc = finetune_loop(f, e);
    if (!rc) rc = finetune_measure(f, &f->val_after, &f->forget_after, e);
    if (!rc) rc = finetune_save(f, e);
    return rc ? rc : finetune_report(f, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct finetune *f = dan_arena_alloc(cli->arena, sizeof *f);
    if (!f) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    *f = (struct finetune){.o = *(const struct finetune_opts *)opts, .cli = cli};
    int rc = work(f, e);
    finetune_release(f);
    return rc;
}

const struct dan_cmd dan_cmd_finetune = {
    .name = "finetune", .doc = "teach a model dialogues: all weights, or a LoRA adapter", .group = DAN_GROUP_TRAIN, .rank = 1,
    .about = "Supervised fine-tuning. Dialogues go through the model's chat template, the same as in 'danlu chat'; the loss counts the assistant's\n"
             "turns and the token that ends each. Sequences of all lengths are packed and do not see each other. With --lora-rank the model stays as\n"
             "it is (it may be quantised) and an adapter in PEFT's layout is written. The report has the held-out loss before and after, and with\n"
             "--forget-eval what was forgotten.",
    .example = "danlu finetune runs/book --data chats.jsonl --lora-rank 8 --out runs/book-chat",
    .opts = options, .opts_bytes = sizeof(struct finetune_opts), .run = run};
