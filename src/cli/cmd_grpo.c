/* danlu grpo: learning from rewards by groups of answers: GRPO, RLOO, Dr. GRPO, DAPO. */
#include <stdio.h>
#include <string.h>
#include "align/group.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/rl_options.h"

static const char *variant_name(size_t i) { return dan_grpo_variants[i].name; }

struct grpo_opts { struct tune_opts tune; struct rl_opts rl; const char *variant, *kl, *clip; int64_t group, dynamic, epochs, minibatches; double beta; bool mask_truncated, measure_kl; };

#define AT(f) offsetof(struct grpo_opts, f)
static const struct dan_opt options[] = {
    TUNE_DATA_OPTIONS(struct grpo_opts, "prompts: .jsonl or .json (prompt, messages, dialogues, or text as the beginning of one); answers that rows have are for the rewards to compare with"),
    RL_ANSWER_OPTIONS(struct grpo_opts, "128"),
    {.name = "variant", .type = 'e', .offset = AT(variant), .dflt = "grpo", .choice_at = variant_name, .alias = "loss-type", .section = "Policy gradient",
     .help = "how a group's rewards become weights of tokens"},
    {.name = "group", .type = 'i', .offset = AT(group), .dflt = "8", .meta = "G", .min = 2, .max = 4096, .alias = "num-generations|group-size|rloo-k",
     .help = "answers to each prompt"},
    {.name = "dynamic-sampling", .type = 'i', .offset = AT(dynamic), .dflt = "-1", .meta = "N", .min = -1, .max = 100, .alias = "max-num-gen-batches",
     .help = "ask further prompts, in at most N rounds a step, until --batch groups have rewards that differ (-1: 10 with dapo, else 0; 0: off)"},
    {.name = "beta", .type = 'f', .offset = AT(beta), .dflt = "-1", .meta = "B", .min = -1, .max = 1000, .alias = "kl-coef", .help = "of the KL term (-1: the variant's usual one; 0: none)"},
    {.name = "kl", .type = 'e', .offset = AT(kl), .dflt = "auto", .choices = "auto|k1|k2|k3",
     .help = "k1: in the reward; k2: in the loss, like k1 on average; k3: in the loss, GRPO's (auto: the variant's)"},
    {.name = "clip-range", .type = 's', .offset = AT(clip), .meta = "LOW[,HIGH]", .alias = "epsilon|cliprange", .help = "ratios stay within 1 - LOW and 1 + HIGH (0.2; dapo: 0.2,0.28)"},
    {.name = "epochs-per-batch", .type = 'i', .offset = AT(epochs), .dflt = "1", .meta = "N", .min = 1, .max = 1000, .alias = "num-iterations|ppo-epochs",
     .help = "times that a step's answers are learnt from"},
    {.name = "minibatches", .type = 'i', .offset = AT(minibatches), .dflt = "1", .meta = "N", .min = 1, .max = 1 << 20, .help = "optimiser steps each time"},
    {.name = "mask-truncated", .type = 'b', .offset = AT(mask_truncated), .alias = "mask-truncated-completions", .help = "answers that did not end have no loss"},
    {.name = "measure-kl", .type = 'b', .offset = AT(measure_kl), .help = "with --beta 0: compare with the model as it was all the same, to log the KL divergence"},
    TUNE_OPTIM_OPTIONS(struct grpo_opts, "1", "peak learning rate (0: 1e-5 for adapters, 1e-6 for all weights)"),
    RL_EVAL_OPTIONS(struct grpo_opts),
    TUNE_LORA_OPTIONS(struct grpo_opts),
    TUNE_MACHINE_OPTIONS(struct grpo_opts),
    TUNE_RUN_OPTIONS(struct grpo_opts),
    {.name = NULL}};

struct sampled { int64_t rounds, prompts, flat, few, none; };     /* sums over steps; few, none: steps with too few groups that differ, with none at all */

struct grpo {
    struct tune t;
    struct rl rl;
    struct grpo_opts *o;
    struct dan_grpo group;
    struct dan_grpo_stats last;
    struct tune_part part;
    double seconds, rollout_seconds;
    int64_t tokens;
    struct sampled sampled;
    bool told_flat;
};

static int parse_clip(const char *text, struct dan_grpo_opts *o, struct dan_err *e)
{
    char rest;
    if (!text) return DAN_OK;
    int n = sscanf(text, "%lf,%lf%c", &o->low, &o->high, &rest);
    if (n == 1 && !strchr(text, ',')) o->high = o->low;
    else if (n != 2) return dan_fail(e, DAN_EUSAGE, "--clip-range '%s' is not LOW or LOW,HIGH: write 0.2 or 0.2,0.28", text);
    if (!(o->low > 0 && o->low <= 1 && o->high > 0)) return dan_fail(e, DAN_EUSAGE, "--clip-range '%s': LOW is above 0 and at most 1, HIGH above 0", text);
    return DAN_OK;
}

static int group_opts(const struct grpo *g, struct dan_grpo_opts *out, struct dan_err *e)
{
    static const char *const kls[] = {"k1", "k2", "k3"};
    *out = dan_grpo_variant_find(g->o->variant)->usual;
    for (int i = 0; i < 3; i++)
        if (!strcmp(g->o->kl, kls[i])) out->kl = (enum dan_kl)i;
    if (g->o->beta >= 0) out->beta = g->o->beta;
    out->mask_truncated = g->o->mask_truncated;
    out->epochs = g->o->epochs;
    out->minibatches = g->o->minibatches;
    out->seed = (uint64_t)g->t.cli->seed;
    return parse_clip(g->o->clip, out, e);
}

static void tell(struct grpo *g, const struct dan_grpo_opts *go)
{
    static const char *const where[] = {"k1 in the reward", "k2 in the loss", "k3 in the loss"};
    struct dan_ui *ui = &g->t.cli->ui;
    char a[DAN_NUM];
    tune_tell_model(&g->t);
    dan_say(ui, "prompts  %zu, %s tokens; %zu held out", g->rl.prompts.n, dan_fmt_count((double)g->rl.prompts.ids, a), g->rl.held.n);
    if (go->beta > 0) dan_say(ui, "policy   %s, %lld x %lld answers a step, KL %s with beta %g", g->o->variant, (long long)g->t.o.batch, (long long)g->o->group, where[go->kl], go->beta);
    else dan_say(ui, "policy   %s, %lld x %lld answers a step, no KL term", g->o->variant, (long long)g->t.o.batch, (long long)g->o->group);
    if (g->rl.rounds) dan_say(ui, "sampling in at most %lld rounds a step, until %lld groups have rewards that differ", (long long)g->rl.rounds, (long long)g->t.o.batch);
    if (g->o->rl.top_k || g->o->rl.top_p < 1)
        dan_warn(ui, "with --top-k or --top-p answers come from another distribution than the one whose log-probabilities are learnt");
}

static int64_t rounds(const struct grpo_opts *o) { return o->dynamic >= 0 ? o->dynamic : dan_grpo_variant_find(o->variant)->usual.drop_flat ? 10 : 0; }

/* Of a run that goes on. */
static void read_progress(struct grpo *g)
{
    json_int_t tokens = 0, asked = g->t.first_step * g->t.o.batch, n[5] = {0};
    json_unpack(g->t.extra, "{s:I,s:f,s:f}", "num_tokens", &tokens, "seconds", &g->seconds, "rollout_seconds", &g->rollout_seconds);
    json_unpack(g->t.extra, "{s:I,s:{s:I,s:I,s:I,s:I,s:I}}", "prompts_asked", &asked, "dynamic_sampling", "rounds", &n[0], "prompts", &n[1], "flat_groups", &n[2],
                "short_steps", &n[3], "flat_steps", &n[4]);
    g->tokens = tokens;
    g->rl.asked = asked;
    g->sampled = (struct sampled){n[0], n[1], n[2], n[3], n[4]};
    g->group.updates = g->t.first_step;
}

static int prepare(struct grpo *g, struct dan_err *e)
{
    struct dan_grpo_opts go;
    g->t.no_template = true;                   /* rl_open looks at it when there are dialogues */
    int rc = group_opts(g, &go, e);
    if (!rc) rc = tune_open(&g->t, e);
    if (!rc) rc = rl_open(&g->rl, &g->t, &g->o->rl, e);
    g->rl.rounds = rounds(g->o);
    go.most_tokens = g->o->rl.max_new;
    if (!rc) rc = tune_start(&g->t, rl_needed(&g->rl), e);
    if (!rc) rc = rl_start(&g->rl, go.beta > 0 || g->o->measure_kl, e);
    if (!rc) rc = dan_grpo_init(&g->group, g->t.tuner, g->rl.ref, &go, g->t.rows, e);
    if (rc) return rc;
    rl_plan(&g->rl, 1e-5, 1e-6);
    tell(g, &go);
    rc = rl_measure(&g->rl, false, e);
    g->part = (struct tune_part){g->t.tuner, &g->t.m.lm, ""};
    if (!rc) rc = tune_begin(&g->t, &g->part, 1, e);
    read_progress(g);
    return rc;
}

static json_t *sampled_json(const struct sampled *s)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "rounds", (json_int_t)s->rounds, "prompts", (json_int_t)s->prompts, "flat_groups", (json_int_t)s->flat, "short_steps",
                     (json_int_t)s->few, "flat_steps", (json_int_t)s->none);
}

static json_t *progress(const struct grpo *g)
{
    return json_pack("{s:I,s:f,s:f,s:I,s:o}", "num_tokens", (json_int_t)g->tokens, "seconds", g->seconds, "rollout_seconds", g->rollout_seconds, "prompts_asked",
                     (json_int_t)g->rl.asked, "dynamic_sampling", sampled_json(&g->sampled));
}

/* TRL's names. */
static json_t *line_of(const struct grpo *g, int64_t step, double lr)
{
    const struct dan_grpo_stats *s = &g->last;
    return json_pack("{s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I}", "step", (json_int_t)step, "loss", s->loss, "learning_rate", lr, "grad_norm", s->grad_norm, "kl", s->kl,
                     "objective/kl", s->kl_answer, "entropy", s->entropy, "clip_ratio/low_mean", s->clip_low, "clip_ratio/high_mean", s->clip_high, "clip_ratio/region_mean",
                     s->clip_low + s->clip_high, "policy/approxkl_avg", s->approxkl, "val/ratio", s->ratio, "num_tokens", (json_int_t)g->tokens);
}

/* What a flat line of rewards means at the beginning; at the end it means that the task is learnt. */
static void tell_flat(struct grpo *g, int64_t step, const struct dan_groups *s)
{
    if (s->flat < s->prompts || g->told_flat || (!g->rl.rounds && step != g->t.first_step + 1)) return;
    g->told_flat = true;
    dan_warn(&g->t.cli->ui, "step %lld: all of %lld groups have the same reward for each answer, so there is nothing to learn from; is the reward within the model's reach, and not yet "
                            "learnt? A larger --group or a reward with degrees helps%s", (long long)step, (long long)s->flat, g->rl.rounds ? " (the report counts the steps that were so)" : "");
}

static void count(struct grpo *g, const struct dan_groups *s)
{
    int64_t differ = s->prompts - s->flat;
    g->tokens += s->said.tokens;
    g->rl.asked += s->prompts;
    if (!g->rl.rounds) return;
    g->sampled.rounds += s->rounds;
    g->sampled.prompts += s->prompts;
    g->sampled.flat += s->flat;
    g->sampled.few += differ > 0 && differ < g->t.o.batch;
    g->sampled.none += differ == 0;
}

/* verl's name for the rounds. */
static void log_rounds(const struct grpo *g, json_t *line, const struct dan_groups *s)
{
    if (!g->rl.rounds) return;
    json_object_set_new(line, "train/num_gen_batches", json_integer(s->rounds));
    json_object_set_new(line, "prompts", json_integer(s->prompts));
    json_object_set_new(line, "flat_groups", json_integer(s->flat));
    json_object_set_new(line, "learnt_answers", json_integer(g->last.learnt));
}

static int step(struct grpo *g, int64_t at, json_t **line, struct dan_err *e)
{
    struct dan_groups s;
    double lr = tune_lr(&g->t, at);
    int rc = rl_groups(&g->rl, at, g->o->group, &s, e);
    if (rc) return rc;
    g->rollout_seconds += s.said.seconds;
    rc = dan_grpo_update(&g->group, &s.learnt, s.reward, lr, &g->last, e);
    if (!rc) {
        count(g, &s);
        *line = line_of(g, at + 1, lr);
        log_rounds(g, *line, &s);
        rl_log_answers(&g->rl, *line, &s.said, s.total, s.each);
        tell_flat(g, at + 1, &s);
    }
    dan_groups_release(&s);
    return rc;
}

static int loop(struct grpo *g, struct dan_err *e)
{
    struct dan_cli *cli = g->t.cli;
    struct dan_bar bar;
    int64_t done = g->t.first_step;
    int rc = DAN_OK;
    dan_bar_start(&bar, &cli->ui, "grpo", "step", done, g->t.steps);
    while (done < g->t.steps && !rc && !cli->stop) {
        double t0 = dan_now();
        json_t *line = NULL;
        rc = step(g, done, &line, e);
        if (rc) break;
        double reward = json_number_value(json_object_get(line, "reward"));
        rc = tune_log(&g->t, line, e);
        g->seconds += dan_now() - t0;
        done++;
        if (!rc) rc = tune_step_done(&g->t, done, progress(g), e);
        dan_bar_update(&bar, done, "reward %.4f  kl %.4f", reward, g->last.kl_answer);
    }
    dan_bar_finish(&bar);
    if (rc) return rl_failed(&g->rl, rc, done, progress(g), e);
    return cli->stop && done < g->t.steps ? tune_interrupted(&g->t, done, progress(g), e) : DAN_OK;
}

static void report_sampled(const struct grpo *g, json_t *j, struct dan_str *out)
{
    const struct sampled *s = &g->sampled;
    double steps = (double)g->t.steps, prompts = s->prompts ? (double)s->prompts : 1;
    json_object_set_new(j, "dynamic_sampling", sampled_json(s));
    dan_str_printf(out, "sampling         %.2f rounds and %.1f prompts a step, %.0f %% of the groups without a difference; %lld of %lld steps had fewer than %lld with one, %lld none\n",
                   (double)s->rounds / steps, (double)s->prompts / steps, 100 * (double)s->flat / prompts, (long long)(s->few + s->none), (long long)g->t.steps, (long long)g->t.o.batch,
                   (long long)s->none);
}

static int report(struct grpo *g, struct dan_err *e)
{
    struct dan_str out = {0};
    double rate = g->rollout_seconds > 0 ? (double)g->tokens / g->rollout_seconds : 0;
    bool stepped = g->t.first_step < g->t.steps;                    /* one that only had to be measured has no last step */
    json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:I,s:f,s:f,s:o*}", "model", g->t.o.model, "out", g->t.o.out, "variant", g->o->variant, "steps", (json_int_t)g->t.steps, "num_tokens",
                          (json_int_t)g->tokens, "rollout_tokens_per_second", rate, "seconds", g->seconds, "kl", stepped ? json_real(g->last.kl_answer) : NULL);
    int rc = j ? rl_report(&g->rl, j, &out, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for the report");
    if (g->rl.rounds) report_sampled(g, j, &out);
    if (g->rl.ref && stepped) dan_str_printf(&out, "KL               %.3f nats an answer at the last step\n", g->last.kl_answer);
    dan_str_printf(&out, "rollouts         %.0f tokens/s, %.0f %% of the time\n", rate, g->seconds > 0 ? 100 * g->rollout_seconds / g->seconds : 0);
    if (!rc) rc = tune_report(&g->t, json_incref(j), &out, e);
    json_decref(j);
    dan_str_release(&out);
    return rc;
}

/* All steps are done: what fails from here on must not lose them. */
static int measure_after(struct grpo *g, struct dan_err *e)
{
    int rc = rl_measure(&g->rl, true, e);
    return rc ? rl_failed(&g->rl, rc, g->t.steps, progress(g), e) : DAN_OK;
}

static int work(struct grpo *g, struct dan_err *e)
{
    int rc = prepare(g, e);
    if (!rc) rc = loop(g, e);
    if (!rc) rc = measure_after(g, e);
    if (!rc) rc = tune_save(&g->t, e);
    return rc ? rc : report(g, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct grpo_opts o = *(const struct grpo_opts *)opts;
    struct grpo *g = dan_arena_alloc(cli->arena, sizeof *g);
    if (!g) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    int rc = tune_recipe(cli, &o, &o.tune, e);
    if (rc) return rc;
    *g = (struct grpo){.t = {.o = o.tune, .cli = cli, .all = &o}, .o = &o};
    rc = work(g, e);
    dan_grpo_release(&g->group);
    rl_release(&g->rl);
    tune_release(&g->t);
    return rc;
}

const struct dan_cmd dan_cmd_grpo = {
    .name = "grpo", .doc = "learn from rewards by groups of answers: GRPO, RLOO, Dr. GRPO, DAPO", .group = DAN_GROUP_ALIGN, .rank = 4,
    .about = "For each prompt the model gives a group of answers; a reward (verifiers, a reward model, any program) scores them, and what scored above the\n"
             "group's mean becomes likelier. Answers come from the weights as they are at that step; in the first pass over them the ratio of new to old\n"
             "probabilities is 1 exactly. Prompts that are too long are named and counted, never cut. The report has the reward of held-out prompts before and\n"
             "after; with --forget-eval also what was forgotten.",
    .example = "danlu grpo runs/chat --data sums.jsonl --reward number --group 8 --steps 100 --lora-rank 8 --out runs/chat-grpo\n"
               "danlu grpo runs/chat --data sums.jsonl --variant rloo --reward 'length:5-40:0.1' --reward 'command:python3 score.py' --out runs/chat-rloo",
    .opts = options, .opts_bytes = sizeof(struct grpo_opts), .run = run};
