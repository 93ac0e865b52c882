/* danlu align: the road from a base model to an assistant in one command: supervised fine-tuning, a reward model, and learning from it (Ouyang et al. 2022), or
 * directly from preferences.  Each stage is a command of its own with a folder of its own; a stage that is done is not done again. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/align_stages.h"
#include "cli/tune.h"
#include "io/json.h"

#define AT(f) offsetof(struct align_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "base model to begin with"},
    {.name = "sft", .type = 'S', .offset = AT(sft), .meta = "PATH", .section = "Data", .help = "dialogues for supervised fine-tuning (none: MODEL can already talk)"},
    {.name = "pairs", .type = 'S', .offset = AT(pairs), .meta = "PATH", .help = "preferences: for the reward model, or for dpo"},
    {.name = "prompts", .type = 'S', .offset = AT(prompts), .meta = "PATH", .help = "prompts that are answered in ppo, grpo and best (none: those of --pairs, else of --sft)"},
    {.name = "ptx", .type = 'S', .offset = AT(ptx), .meta = "PATH", .help = "plain text that ppo goes on predicting (PPO-ptx), against forgetting"},
    {.name = "forget-eval", .type = 'S', .offset = AT(forget), .meta = "PATH", .help = "plain text whose loss is measured before and after sft, ppo, grpo and tune"},
    {.name = "method", .type = 'e', .offset = AT(method), .dflt = "auto", .choices = "auto|ppo|grpo|rloo|dr_grpo|best|dpo", .section = "Stages",
     .help = "the last stage; auto: ppo where there are --prompts, --reward or --ptx, else dpo; best: rejection sampling, then fine-tuning on the best answers"},
    {.name = "reward", .type = 'S', .offset = AT(reward), .meta = "SPEC[:WEIGHT]", .help = "more rewards beside the reward model's, or instead of one where there are no --pairs (as in danlu grpo)"},
    {.name = "set", .type = 'S', .offset = AT(set), .meta = "STAGE.OPTION=VALUE", .help = "an option of a stage's command: sft.epochs=1, reward.lr=1e-4, ppo.steps=50; grpo.* for rloo and dr_grpo too"},
    {.name = "template", .type = 's', .offset = AT(template), .meta = "NAME|FILE", .alias = "chat-template", .help = "chat template of all stages (none: the model's)"},
    {.name = "lora-rank", .type = 'i', .offset = AT(lora_rank), .dflt = "0", .meta = "R", .min = 0, .max = 65536, .alias = "lora-r|rank",
     .help = "learn through adapters of this rank, merged after each stage (0: all weights)"},
    {.name = "out", .type = 's', .offset = AT(out), .meta = "DIR", .letter = 'o', .section = "Output", .required = true, .help = "folder; each stage has its own in it"},
    {.name = NULL}};

static int check(const struct align_opts *o, struct dan_err *e)
{
    const char *m = align_method(o);
    bool answers = strcmp(m, "dpo") != 0;
    if (!o->model) return dan_fail(e, DAN_EUSAGE, "which model? give the folder or file of a base model: danlu align MODEL --sft CHATS --pairs PAIRS --out DIR");
    if (!answers && !o->pairs.n) return dan_fail(e, DAN_EUSAGE, "dpo learns from preferences: give them with --pairs");
    if (answers && !o->pairs.n && !o->reward.n)
        return dan_fail(e, DAN_EUSAGE, "%s needs a reward: --pairs FILE to train a reward model, or --reward SPEC (number, regex:PATTERN, ... as in danlu grpo)", m);
    if (answers && !o->prompts.n && !o->pairs.n && !o->sft.n) return dan_fail(e, DAN_EUSAGE, "%s needs prompts to answer: give them with --prompts", m);
    if (!answers && !o->sft.n && o->forget.n)
        return dan_fail(e, DAN_EUSAGE, "--forget-eval: dpo does not measure it, and there is no other stage; leave it out, or add --sft");
    if (o->ptx.n && strcmp(m, "ppo")) return dan_fail(e, DAN_EUSAGE, "--ptx is of ppo, not of %s; leave it out", m);
    return DAN_OK;
}

static int write_report(const struct align *a, struct dan_err *e)
{
    const struct align_opts *o = a->o;
    struct dan_str text = {0}, path = {0}, title = {0};
    json_t *report = json_pack("{s:s,s:s,s:s,s:s,s:O}", "model", o->model, "out", o->out, "method", align_method(o), "final", a->model, "stages", a->stages);
    const json_t *last = json_object_get(json_array_get(a->stages, json_array_size(a->stages) - 1), "report");
    align_table(a->stages, a->cli->ui.out_tty ? dan_ui_width() : 0, false, &text);
    dan_path_join(&path, o->out, "report.json");
    dan_str_printf(&title, "danlu align %s (%s)", o->model, align_method(o));
    int rc = !report || text.failed || path.failed || title.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the report") : dan_json_write(path.p, report, e);
    if (!rc) rc = align_page(title.p, o->out, &text, a->stages, json_object_get(last, "samples"), e);
    if (!rc) rc = a->cli->json ? dan_out_json(&a->cli->ui, json_incref(report), e) : dan_out(&a->cli->ui, dan_str_c(&text), text.n, e);
    if (!rc) dan_say(&a->cli->ui, "wrote '%s' (report.html); try it: danlu chat %s", o->out, a->model);
    json_decref(report);
    dan_str_release(&text);
    dan_str_release(&path);
    dan_str_release(&title);
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct align_opts *o = opts;
    struct align a = {.o = o, .cli = cli, .model = o->model, .stages = json_array()};
    int lock = 0;
    int rc = a.stages ? check(o, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    if (!rc) rc = align_check_set(&a, e);
    if (!rc) rc = dan_mkdirs(o->out, e);
    if (!rc) rc = dan_lock_dir(o->out, &lock, e);          /* stages lock their own folders */
    if (!rc) rc = align_run(&a, e);
    if (!rc) rc = write_report(&a, e);
    dan_unlock_dir(&lock);
    json_decref(a.stages);
    return rc;
}

const struct dan_cmd dan_cmd_align = {
    .name = "align", .doc = "from base model to assistant: fine-tuning, reward model, PPO or its kin", .group = DAN_GROUP_ALIGN, .rank = 9,
    .about = "Runs the stages one after the other, each with its own folder in --out, and gives one report: dialogues (--sft) teach the model to answer;\n"
             "preferences (--pairs) teach a reward model; then the model learns from the rewards of its own answers (--method ppo, as InstructGPT with --ptx;\n"
             "grpo, rloo, dr_grpo; best: rejection sampling), or from the preferences directly (--method dpo). The same command again goes on where it\n"
             "was stopped. Options of a stage's own command are set with --set.",
    .example = "danlu align runs/book --sft chats.jsonl --pairs pairs.jsonl --ptx book.txt --forget-eval held.txt --set ppo.steps=50 --out runs/assistant\n"
               "danlu align runs/chat --reward number --prompts sums.jsonl --method grpo --out runs/sums",
    .opts = options, .opts_bytes = sizeof(struct align_opts), .run = run};
