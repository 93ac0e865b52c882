/* danlu ppo: a model learns from the rewards of its own answers (PPO as InstructGPT did it, with the pre-training mix). */
#include <math.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/ppo.h"

#define AT(f) offsetof(struct ppo_opts, f)
static const struct dan_opt options[] = {
    TUNE_DATA_OPTIONS(struct ppo_opts, "prompts: .jsonl or .json (prompt; messages; text; of dialogues and pairs their prompt); other fields go to the reward"),
    RL_EVAL_OPTIONS(struct ppo_opts),
    RL_ANSWER_OPTIONS(struct ppo_opts, "64"),
    {.name = "answers", .type = 'i', .offset = AT(answers), .dflt = "4", .meta = "K", .min = 1, .max = 4096, .alias = "num-generations",
     .help = "answers to each prompt; an update has batch x K"},
    {.name = "score-clip", .type = 'f', .offset = AT(score_clip), .dflt = "0", .meta = "X", .min = 0, .max = 1e9, .alias = "reward-clip", .help = "scores are cut to +-X (0: not)"},
    {.name = "kl-beta", .type = 'f', .offset = AT(kl_beta), .dflt = "0.05", .meta = "B", .section = "PPO", .min = 0, .max = 1000, .alias = "kl-coef|init-kl-coef|beta",
     .help = "price of a nat of distance from the model as it was, token by token"},
    {.name = "kl-target", .type = 'f', .offset = AT(kl_target), .dflt = "0", .meta = "N", .min = 0, .max = 1e6, .help = "nats an answer that the price is steered to (0: fixed price)"},
    {.name = "kl-horizon", .type = 'f', .offset = AT(kl_horizon), .dflt = "10000", .meta = "N", .min = 1, .max = 1e12, .help = "answers over which it is steered"},
    {.name = "max-kl", .type = 'f', .offset = AT(max_kl), .dflt = "0", .meta = "N", .min = 0, .max = 1e6, .help = "stop where an update's distance passes N nats an answer (0: never)"},
    {.name = "whiten-rewards", .type = 'b', .offset = AT(whiten_rewards), .help = "rewards of an update are scaled to variance 1"},
    {.name = "value", .type = 's', .offset = AT(value), .meta = "MODEL", .alias = "value-model",
     .help = "what the critic begins as (default: the reward model, else MODEL with a fresh head)"},
    {.name = "ppo-epochs", .type = 'i', .offset = AT(ppo_epochs), .dflt = "4", .meta = "N", .min = 1, .max = 1000, .alias = "num-ppo-epochs", .help = "times through an update's answers"},
    {.name = "minibatches", .type = 'i', .offset = AT(minibatches), .dflt = "1", .meta = "N", .min = 1, .max = 1 << 20, .alias = "num-mini-batches", .help = "steps each time"},
    {.name = "clip-range", .type = 'f', .offset = AT(clip_range), .dflt = "0.2", .meta = "X", .min = 0, .max = 1000, .alias = "cliprange|epsilon", .help = "of the ratio"},
    {.name = "value-clip", .type = 'f', .offset = AT(value_clip), .dflt = "0.2", .meta = "X", .min = 0, .max = 1e9, .alias = "cliprange-value", .help = "of the values (0: none)"},
    {.name = "vf-coef", .type = 'f', .offset = AT(vf_coef), .dflt = "0.1", .meta = "X", .min = 0, .max = 1000, .help = "weight of the critic's loss"},
    {.name = "gamma", .type = 'f', .offset = AT(gamma), .dflt = "1", .meta = "X", .min = 0, .max = 1, .help = "discount"},
    {.name = "lambda", .type = 'f', .offset = AT(lambda), .dflt = "0.95", .meta = "X", .min = 0, .max = 1, .alias = "lam", .help = "of the advantages (GAE)"},
    {.name = "max-approxkl", .type = 'f', .offset = AT(max_approxkl), .dflt = "0", .meta = "X", .min = 0, .max = 1000, .alias = "early-stop-kl", .help = "an update ends where a step's approxkl passes X (0: never)"},
    {.name = "keep-advantages", .type = 'b', .offset = AT(keep_advantages), .help = "advantages as they are, not whitened"},
    {.name = "critic-lr", .type = 'f', .offset = AT(critic_lr), .dflt = "0", .meta = "X", .min = 0, .max = 1000, .alias = "value-lr", .help = "peak learning rate of the critic (0: 3 times --lr)"},
    {.name = "ema", .type = 'f', .offset = AT(ema), .dflt = "0", .meta = "X", .min = 0, .max = 0.999999, .help = "write the weights' moving average, which keeps X a step (InstructGPT: 0.992)"},
    {.name = "ptx", .type = 'S', .offset = AT(ptx), .meta = "PATH", .section = "Pre-training mix", .help = "plain text that is learnt beside, against forgetting (PPO-ptx)"},
    {.name = "ptx-coef", .type = 'f', .offset = AT(ptx_coef), .dflt = "1", .meta = "G", .min = 0, .max = 1e6, .help = "weight of its loss (nats per token)"},
    {.name = "ptx-windows", .type = 'i', .offset = AT(ptx_windows), .dflt = "8", .meta = "N", .min = 1, .max = 1 << 20, .help = "windows of text in a step"},
    TUNE_OPTIM_OPTIONS(struct ppo_opts, "1", "peak learning rate (0: 1e-4 for adapters, 1e-5 for all weights)"),
    TUNE_LORA_OPTIONS(struct ppo_opts),
    TUNE_MACHINE_OPTIONS(struct ppo_opts),
    TUNE_RUN_OPTIONS(struct ppo_opts),
    {.name = NULL}};

static int read_ptx(struct ppo *p, struct dan_err *e)
{
    const struct dan_strings *paths = &p->o->ptx;
    if (!paths->n || p->o->ptx_coef == 0) return DAN_OK;
    if (p->o->rl.temperature != 1) return dan_fail(e, DAN_EUSAGE, "--ptx learns text as it is: it goes with --temperature 1 alone");
    int rc = dan_sft_data_text(paths->v, paths->n, p->t.m.tok, p->t.longest, 0, &p->ptx, e);
    if (!rc) tune_fingerprint(&p->t, &p->ptx);
    return rc;
}

static int start_ppo(struct ppo *p, struct dan_err *e)
{
    const struct ppo_opts *o = p->o;
    struct dan_ppo_opts po = {.gamma = o->gamma, .lambda = o->lambda, .clip = o->clip_range, .value_clip = o->value_clip, .vf_coef = o->vf_coef, .score_clip = o->score_clip,
                              .ptx_coef = o->ptx_coef, .max_approxkl = o->max_approxkl, .epochs = o->ppo_epochs, .minibatches = o->minibatches, .ptx_windows = o->ptx_windows,
                              .whiten_rewards = o->whiten_rewards, .whiten_advantages = !o->keep_advantages, .seed = (uint64_t)p->t.cli->seed};
    struct dan_kl_control kl = {o->kl_beta, o->kl_target, o->kl_horizon};
    return dan_ppo_init(&p->ppo, p->t.tuner, p->critic_tuner, p->rl.ref, p->ptx.n ? &p->ptx : NULL, &po, &kl, p->t.rows, e);
}

static void tell(struct ppo *p)
{
    struct dan_ui *ui = &p->t.cli->ui;
    char a[DAN_NUM];
    tune_tell_model(&p->t);
    dan_say(ui, "critic   %s parameters learn%s", dan_fmt_count((double)dan_tuner_params(p->critic_tuner), a), p->critic.dir ? "" : " (adapter and head over the same base)");
    dan_say(ui, "prompts  %zu; %zu held out; %lld answers an update", p->rl.prompts.n, p->rl.held.n, (long long)(p->t.o.batch * p->o->answers));
    if (p->ptx.n) dan_say(ui, "ptx      %s tokens of text, weight %g", dan_fmt_count((double)p->ptx.ids, a), p->o->ptx_coef);
}

static int prepare(struct ppo *p, struct dan_err *e)
{
    p->t.ema = p->o->ema;
    p->t.no_template = true;                 /* rl_open looks, where rows are dialogues */
    int rc = tune_open(&p->t, e);
    if (!rc) rc = rl_open(&p->rl, &p->t, &p->o->rl, e);
    if (!rc) rc = read_ptx(p, e);
    if (!rc) rc = tune_start(&p->t, dan_sft_data_longest(&p->ptx, rl_needed(&p->rl)), e);
    if (!rc) rc = rl_start(&p->rl, true, e);
    if (!rc) rc = ppo_open_critic(p, e);
    if (!rc) rc = start_ppo(p, e);
    if (rc) return rc;
    rl_plan(&p->rl, 1e-4, 1e-5);
    tell(p);
    return DAN_OK;
}

static int begin(struct ppo *p, struct dan_err *e)
{
    json_int_t tokens = 0, episodes = 0, taken = 0;
    p->part[0] = (struct tune_part){p->t.tuner, &p->t.m.lm, "policy/"};
    p->part[1] = (struct tune_part){p->critic_tuner, ppo_critic_lm(p), "critic/"};
    int rc = tune_begin(&p->t, p->part, 2, e);
    if (rc || !p->t.extra) return rc;
    if (json_unpack(p->t.extra, "{s:I,s:I,s:I,s:F,s:F}", "num_tokens", &tokens, "episodes", &episodes, "ptx_at", &taken, "seconds", &p->seconds, "kl_coef", &p->ppo.kl.beta))
        return dan_fail(e, DAN_EFORMAT, "the checkpoint in '%s' lacks what ppo needs to go on; start a new run", p->t.o.out);
    p->tokens = tokens;
    p->episodes = episodes;
    p->ppo.ptx_at = taken;
    p->ppo.updates = p->t.first_step;
    return DAN_OK;
}

static json_t *progress(const struct ppo *p)
{
    return json_pack("{s:I,s:I,s:I,s:f,s:f}", "num_tokens", (json_int_t)p->tokens, "episodes", (json_int_t)p->episodes, "ptx_at", (json_int_t)p->ppo.ptx_at, "seconds",
                     p->seconds, "kl_coef", p->ppo.kl.beta);
}

/* Answers that a reward applies to. */
static int64_t episodes(struct ppo *p, const struct dan_rollouts *said, const double *score, struct dan_episode *ep)
{
    int64_t n = 0;
    for (size_t i = 0; i < said->n; i++) {
        const struct dan_said *s = &said->v[i];
        if (isnan(score[i])) p->left_out++;
        else ep[n++] = (struct dan_episode){.ids = s->ids, .n = s->n, .prompt = s->n_prompt, .ended = s->ended, .score = score[i]};
    }
    return n;
}

static int learn(struct ppo *p, int64_t step, const struct dan_rollouts *said, const double *score, struct dan_err *e)
{
    double lr = tune_lr(&p->t, step), critic = p->o->critic_lr > 0 ? p->o->critic_lr / p->t.lr : 3;
    struct dan_episode *ep = dan_malloc((said->n + 1) * sizeof *ep);
    int rc = ep ? dan_ppo_update(&p->ppo, ep, episodes(p, said, score, ep), lr, lr * critic, &p->last, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for an update");
    dan_free(ep);
    return rc;
}

static int write_log(struct ppo *p, int64_t step, double seconds, const struct dan_rollouts *said, const double *score, const double *each, struct dan_err *e)
{
    p->tokens += p->last.tokens;
    p->episodes += p->last.answers;
    p->seconds += seconds;
    json_t *j = json_pack("{s:I,s:f}", "step", (json_int_t)step + 1, "lr", tune_lr(&p->t, step)), *metrics = ppo_metrics(p, seconds);
    int rc = j && metrics && !json_object_update(j, metrics) ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for the log");
    json_decref(metrics);
    if (rc) {
        json_decref(j);
        return rc;
    }
    rl_log_answers(&p->rl, j, said, score, each);
    return tune_log(&p->t, j, e);
}

static int update(struct ppo *p, int64_t step, struct dan_err *e)
{
    struct dan_rollouts said = {0};
    double *score = NULL, *each = NULL, start = dan_now();
    int rc = rl_answers(&p->rl, step, p->o->answers, &said, &score, &each, e);
    if (!rc) rc = learn(p, step, &said, score, e);
    if (!rc) rc = write_log(p, step, dan_now() - start, &said, score, each, e);
    dan_rollouts_release(&said);
    dan_free(score);
    dan_free(each);
    return rc;
}

static int loop(struct ppo *p, struct dan_err *e)
{
    struct dan_cli *cli = p->t.cli;
    struct dan_bar bar;
    bool far = false;
    int rc = DAN_OK;
    dan_bar_start(&bar, &cli->ui, "ppo", "update", p->t.first_step, p->t.steps);
    for (int64_t step = p->t.first_step; step < p->t.steps && !rc && !cli->stop && !far; step++) {
        rc = update(p, step, e);
        if (rc) rc = rl_failed(&p->rl, rc, p->ppo.updates, progress(p), e);
        if (rc) break;
        rc = tune_step_done(&p->t, step + 1, progress(p), e);
        far = p->o->max_kl > 0 && p->last.kl > p->o->max_kl;
        dan_bar_update(&bar, step + 1, "score %.3f  kl %.2f  entropy %.1f  without end %.0f %%", p->last.scores, p->last.kl, p->last.entropy,
                       100 * (1 - (double)p->last.eos / (double)p->last.answers));
    }
    dan_bar_finish(&bar);
    if (!rc && far) dan_warn(&cli->ui, "the answers are %.2f nats from the model's own, more than --max-kl %g: stopped after update %lld", p->last.kl, p->o->max_kl, (long long)p->ppo.updates);
    return !rc && cli->stop && p->ppo.updates < p->t.steps ? tune_interrupted(&p->t, p->ppo.updates, progress(p), e) : rc;
}

/* All updates are done: what fails from here on must not lose them.  A checkpoint has the weights that learn, not their average. */
static int measure_after(struct ppo *p, struct dan_err *e)
{
    struct dan_err second = {0};               /* the first is what is told */
    int rc = p->o->ema > 0 ? dan_tuner_swap_ema(p->t.tuner, e) : DAN_OK;
    if (!rc) rc = rl_measure(&p->rl, true, e);
    if (!rc) return DAN_OK;
    if (p->o->ema > 0) (void)dan_tuner_swap_ema(p->t.tuner, &second);
    return rl_failed(&p->rl, rc, p->ppo.updates, progress(p), e);
}

static int work(struct ppo *p, struct dan_err *e)
{
    int rc = prepare(p, e);
    if (!rc) rc = rl_measure(&p->rl, false, e);
    if (!rc) rc = begin(p, e);
    if (!rc) rc = loop(p, e);
    if (!rc) rc = measure_after(p, e);
    if (!rc) rc = tune_save(&p->t, e);
    return rc ? rc : ppo_report(p, e);
}

static void release(struct ppo *p)
{
    dan_ppo_release(&p->ppo);
    ppo_close_critic(p);
    dan_sft_data_release(&p->ptx);
    rl_release(&p->rl);
    tune_release(&p->t);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct ppo_opts o = *(const struct ppo_opts *)opts;
    struct ppo *p = dan_arena_alloc(cli->arena, sizeof *p);
    if (!p) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    int rc = tune_recipe(cli, &o, &o.tune, e);
    if (rc) return rc;
    *p = (struct ppo){.t = {.o = o.tune, .cli = cli, .all = &o}, .o = &o};
    rc = work(p, e);
    release(p);
    return rc;
}

const struct dan_cmd dan_cmd_ppo = {
    .name = "ppo", .doc = "learn from the rewards of its own answers: PPO, with the pre-training mix", .group = DAN_GROUP_ALIGN, .rank = 3,
    .about = "Proximal policy optimisation as InstructGPT did it. In every update the model answers prompts, a reward scores the answers, a critic says what was\n"
             "to be expected, and the model moves towards what was better; each token pays --kl-beta for its distance from the model as it was. With --ptx\n"
             "plain text is learnt beside, so that less is forgotten. With --lora-rank policy, critic and reference share one base.",
    .example = "danlu ppo runs/chat --data prompts.jsonl --reward model:runs/reward --lora-rank 8 --ptx book.txt --out runs/chat-ppo",
    .opts = options, .opts_bytes = sizeof(struct ppo_opts), .run = run};
