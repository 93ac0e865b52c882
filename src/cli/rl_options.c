#include "cli/rl_options.h"
#include <math.h>
#include <string.h>
#include "align/policy.h"
#include "align/shuffle.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/report_lines.h"

enum { TEXT_WINDOWS = 200, EVAL_STEP = (1 << 22) - 1, AGAIN = 64 };

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for answers"); }

static void tell_skipped(const struct rl *r)
{
    const char *names[DAN_N_PROMPT_SKIPS];
    for (int k = 0; k < DAN_N_PROMPT_SKIPS; k++) names[k] = dan_prompt_skip_name((enum dan_prompt_skip)k);
    report_skipped(&r->t->cli->ui, r->prompts.rows, r->prompts.skipped, names, DAN_N_PROMPT_SKIPS, &r->prompts.told);
}

static void fingerprint(struct tune *t, const struct dan_prompts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        tune_fingerprint_bytes(t, &p->v[i].index, sizeof p->v[i].index);
        tune_fingerprint_bytes(t, p->v[i].ids, (size_t)p->v[i].n * sizeof *p->v[i].ids);
    }
}

static int read_prompts(struct rl *r, struct dan_err *e)
{
    struct tune *t = r->t;
    struct dan_prompts_opts po = {.tok = t->m.tok, .chat = &t->chat, .longest = t->longest - r->o->max_new, .raw = r->o->raw, .has_now = true, .now = t->now};
    if (r->o->overlong > r->o->max_new)
        return dan_fail(e, DAN_EUSAGE, "--overlong-buffer %lld is more than the %lld tokens of --max-new, whose last ones it is", (long long)r->o->overlong, (long long)r->o->max_new);
    if (po.longest < 1)
        return dan_fail(e, DAN_EINVAL, "--max-new %lld leaves no room for a prompt in a context of %lld; give a smaller --max-new, for example %lld", (long long)r->o->max_new,
                        (long long)t->longest, (long long)(t->longest > 1 ? t->longest / 2 : 1));
    int rc = dan_prompts_read(t->o.data.v, t->o.data.n, &po, &r->prompts, e);
    if (rc) return rc;
    tell_skipped(r);
    fingerprint(t, &r->prompts);
    return dan_prompts_hold_out(&r->prompts, t->o.val_fraction, (size_t)r->o->eval_prompts, &r->held, e);
}

static bool has_dialogues(const struct rl *r)
{
    bool any = false;
    for (size_t i = 0; i < r->prompts.n && !r->o->raw && !any; i++) any = r->prompts.v[i].messages != NULL;
    return any;
}

/* What ends an answer: the model's eos and, behind dialogues, the token that the template puts behind an assistant's turn. */
static int find_stop(struct rl *r, struct dan_err *e)
{
    struct dan_chat_traits traits = {.stop = -1};
    for (size_t i = 0; i < r->t->m.n_eos; i++) dan_ids_push(&r->stop, r->t->m.eos[i]);
    bool by_template = has_dialogues(r);
    int rc = by_template ? dan_chat_traits_of(&r->t->chat, true, r->t->now, &traits, e) : DAN_OK;
    if (!rc && by_template && traits.stop >= 0) dan_ids_push(&r->stop, traits.stop);
    if (!rc && (by_template ? !traits.stop_trained : !r->stop.n))
        dan_warn(&r->t->cli->ui, "%s: answers end at --max-new alone", by_template ? "the template has no end of turn that is a token" : "the model has no token that ends a text");
    dan_chat_traits_release(&traits);
    return !rc && r->stop.failed ? no_memory(e) : rc;
}

/* Prompts need room, too. */
static void fit_answers(struct tune *t, struct rl_opts *o)
{
    int64_t half = t->longest > 1 ? t->longest / 2 : 1;
    if (dan_given(t->cli, "max-new") || o->max_new <= half) return;
    o->max_new = half;
    dan_say(&t->cli->ui, "answers  of at most %lld tokens, half of the context of %lld (--max-new)", (long long)half, (long long)t->longest);
}

int rl_open(struct rl *r, struct tune *t, struct rl_opts *o, struct dan_err *e)
{
    *r = (struct rl){.t = t, .o = o, .epoch = -1};
    t->temperature = o->temperature;
    fit_answers(t, o);
    int rc = dan_rewards_open(o->reward.v, o->reward.n, t->m.pool, dan_isa_mask(t->cli->isa), &r->rewards, e);
    for (size_t i = 0; i < r->rewards.n && !rc; i++) dan_say(&t->cli->ui, "reward   %s x %g", dan_rewards_name(&r->rewards, i), r->rewards.weight[i]);
    if (!rc) rc = read_prompts(r, e);
    if (!rc) rc = find_stop(r, e);
    if (!rc && o->forget.n) rc = dan_sft_data_text(o->forget.v, o->forget.n, t->m.tok, t->longest, TEXT_WINDOWS, &r->text, e);
    return rc;
}

int64_t rl_needed(const struct rl *r)
{
    int64_t most = (r->prompts.longest > r->held.longest ? r->prompts.longest : r->held.longest) + r->o->max_new;
    return dan_sft_data_longest(&r->text, most);
}

/* The model as it was: the adapter off; where all weights learn, the file once more. */
static int make_reference(struct rl *r, struct dan_err *e)
{
    struct tune *t = r->t;
    struct dan_lm *lm = &t->m.lm;
    struct dan_tuner_opts o = tune_tuner_opts(t);
    o.frozen = true;
    if (!t->o.lora_rank) {
        int rc = lm_open(t->cli, t->o.model, false, &r->ref_model, e);
        if (!rc) rc = lm_reload_own(&r->ref_model, t->o.model, e);     /* as the policy: what a format of fewer bits rounds would be a KL */
        return rc ? rc : dan_tuner_new(&r->ref_model.lm, &o, t->m.pool, &r->ref, e);
    }
    int last = lm->n_adapters - 1;
    lm->adapter[last].on = lm->adapter[last].trained = false;
    int rc = dan_tuner_new(lm, &o, t->m.pool, &r->ref, e);
    lm->adapter[last].on = lm->adapter[last].trained = true;
    return rc;
}

static bool go_on(void *ctx) { const struct rl *r = ctx; return !r->t->cli->stop; }

int rl_start_answers(struct rl *r, enum dan_prec prec, bool fixed, struct dan_err *e)
{
    struct tune *t = r->t;
    struct dan_rollout_opts o = {.sampling = {.temperature = r->o->temperature, .top_k = r->o->top_k, .top_p = r->o->top_p, .repetition_penalty = 1, .seed = (uint64_t)t->cli->seed},
                                 .max_new = r->o->max_new, .stop = r->stop.v, .n_stop = r->stop.n, .streams = r->o->streams, .context = rl_needed(r), .fixed = fixed,
                                 .prec = prec, .pool = t->m.pool, .cpu_mask = dan_isa_mask(t->cli->isa), .go_on = go_on, .ctx = r};
    if (o.context > t->longest) o.context = t->longest;
    return dan_rollout_new(&t->m.lm, t->m.tok, &o, &r->rollout, e);
}

int rl_start(struct rl *r, bool reference, struct dan_err *e)
{
    struct tune *t = r->t;
    int rc = reference ? make_reference(r, e) : DAN_OK;
    if (!rc) rc = rl_start_answers(r, tune_tuner_opts(t).prec, false, e);
    if (!rc) rc = dan_packed_init(&r->pack, t->rows, e);
    size_t batch = (size_t)t->o.batch, rounds = r->rounds > 1 ? (size_t)r->rounds : 1;
    r->order = dan_malloc((r->prompts.n + 1) * sizeof *r->order);
    r->batch = dan_malloc(batch * sizeof *r->batch);
    r->copy = dan_malloc(batch * rounds * sizeof *r->copy);
    return rc ? rc : r->order && r->batch && r->copy ? DAN_OK : no_memory(e);
}

static void release_held(struct rl_held *h)
{
    dan_rollouts_release(&h->said);
    dan_free(h->score);
}

void rl_release(struct rl *r)
{
    dan_rollout_free(r->rollout);
    dan_tuner_free(r->ref);
    lm_close(&r->ref_model);
    dan_rewards_close(&r->rewards);
    dan_prompts_release(&r->prompts);
    dan_prompts_release(&r->held);
    dan_sft_data_release(&r->text);
    dan_packed_release(&r->pack);
    dan_ids_release(&r->stop);
    release_held(&r->before);
    release_held(&r->after);
    dan_free(r->text_before);
    dan_free(r->text_after);
    dan_free(r->order);
    dan_free(r->batch);
    dan_free(r->copy);
}

void rl_plan(struct rl *r, double lr_adapter, double lr_full)
{
    struct tune *t = r->t;
    double epoch = ceil((double)r->prompts.n / (double)t->o.batch);
    t->lr = t->o.lr > 0 ? t->o.lr : t->o.lora_rank ? lr_adapter : lr_full;
    t->steps = t->o.steps ? t->o.steps : (int64_t)(t->o.epochs * epoch + 0.5);
    if (t->steps < 1) t->steps = 1;
}

int rl_score(struct rl *r, const struct dan_rollouts *said, double *total, double *each, struct dan_err *e)
{
    int rc = dan_rewards_score(&r->rewards, said, total, each, e);
    for (size_t i = 0; i < said->n && !rc; i++) {
        if (!said->v[i].ended) total[i] -= r->o->missing_eos_penalty;
        if (r->o->overlong) total[i] += dan_overlong(dan_said_tokens(&said->v[i]), r->o->max_new, r->o->overlong);
    }
    return rc;
}

/* Prompts first .. of the endless list of shuffled epochs.  One step may reach into other epochs, and its rounds far: each has its own random numbers. */
static void take_prompts(struct rl *r, int64_t first, int64_t n, int64_t round)
{
    int64_t all = (int64_t)r->prompts.n;
    struct dan_prompt *copy = r->copy + round * r->t->o.batch;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = first + i;
        copy[i] = r->prompts.v[dan_shuffled(r->order, all, &r->epoch, (uint64_t)r->t->cli->seed, 0, k)];
        copy[i].index += (k / all % AGAIN + round * AGAIN) * r->prompts.rows;
        r->batch[i] = &copy[i];
    }
}

struct asking { struct rl *r; int64_t step, samples, first; };

static int ask(void *ctx, int64_t round, int64_t n, struct dan_rollouts *said, double **total, double **each, struct dan_err *e)
{
    struct asking *a = ctx;
    struct rl *r = a->r;
    size_t count = (size_t)(n * a->samples);
    *total = dan_malloc((count + 1) * sizeof **total);
    *each = dan_malloc((count * r->rewards.n + 1) * sizeof **each);
    if (!*total || !*each) return no_memory(e);
    take_prompts(r, a->first, n, round);
    a->first += n;
    int rc = dan_rollout_run(r->rollout, r->batch, n, a->samples, a->step, said, e);
    r->rewards.partial = round > 0;            /* where no reward applies to a whole step is an error, to the few prompts of a later round is none */
    if (!rc) rc = rl_score(r, said, *total, *each, e);
    r->rewards.partial = false;
    return rc;
}

int rl_answers(struct rl *r, int64_t step, int64_t samples, struct dan_rollouts *said, double **total, double **each, struct dan_err *e)
{
    struct asking a = {r, step, samples, step * r->t->o.batch};
    *said = (struct dan_rollouts){0};
    return ask(&a, 0, r->t->o.batch, said, total, each, e);
}

int rl_groups(struct rl *r, int64_t step, int64_t samples, struct dan_groups *out, struct dan_err *e)
{
    struct asking a = {r, step, samples, r->asked};
    return dan_groups_sample(r->t->o.batch, r->rounds, r->rewards.n, ask, &a, out, e);
}

static int measure_answers(struct rl *r, struct rl_held *h, struct dan_err *e)
{
    double sum = 0, squares = 0;
    r->t->cli->ui.heeds = 1;                   /* go_on is looked at from here, and a reward's program has to be ended */
    const struct dan_prompt **p = dan_malloc((r->held.n + 1) * sizeof *p);
    h->score = dan_malloc((r->held.n + 1) * sizeof *h->score);
    int rc = p && h->score ? DAN_OK : no_memory(e);
    for (size_t i = 0; i < r->held.n && !rc; i++) p[i] = &r->held.v[i];
    if (!rc) rc = dan_rollout_run(r->rollout, p, (int64_t)r->held.n, 1, EVAL_STEP, &h->said, e);
    if (!rc) rc = rl_score(r, &h->said, h->score, NULL, e);
    dan_free(p);
    for (size_t i = 0; i < h->said.n && !rc; i++) {
        h->ended += (double)h->said.v[i].ended / (double)h->said.n;
        h->tokens += (double)dan_said_tokens(&h->said.v[i]) / (double)h->said.n;
        if (isnan(h->score[i])) continue;
        sum += h->score[i];
        squares += h->score[i] * h->score[i];
        h->n++;
    }
    if (!rc && h->n) h->mean = sum / (double)h->n;
    if (!rc && h->n > 1) h->error = sqrt(fmax(0, squares - sum * h->mean) / (double)(h->n - 1) / (double)h->n);
    return rc;
}

/* The loss of text is one of the model itself, not of its softened logits. */
static int measure_text(struct rl *r, double **mean, struct dan_err *e)
{
    struct dan_tuner_opts o = tune_tuner_opts(r->t);
    struct dan_tuner *plain = NULL;
    double loss;
    int rc = DAN_OK;
    o.frozen = true;
    o.temperature = 0;
    if (r->t->temperature > 0 && r->t->temperature != 1) rc = dan_tuner_new(&r->t->m.lm, &o, r->t->m.pool, &plain, e);
    *mean = dan_calloc(r->text.n + 1, sizeof **mean);
    if (!rc && !*mean) rc = no_memory(e);
    if (!rc) rc = dan_sft_eval(plain ? plain : r->t->tuner, &r->text, &r->pack, &loss, *mean, e);
    dan_tuner_free(plain);
    return rc;
}

int rl_measure(struct rl *r, bool after, struct dan_err *e)
{
    int rc = r->held.n ? measure_answers(r, after ? &r->after : &r->before, e) : DAN_OK;
    return rc || !r->text.n ? rc : measure_text(r, after ? &r->text_after : &r->text_before, e);
}

int rl_failed(struct rl *r, int rc, int64_t step, json_t *extra, struct dan_err *e)
{
    struct dan_err why = *e, saved = {0};
    *e = (struct dan_err){0};
    if (rc == DAN_ECANCELLED || rc == DAN_ENOMEM || r->t->n_parts == 0) {
        if (rc == DAN_ECANCELLED) return tune_interrupted(r->t, step, extra, e);
        json_decref(extra);
        return dan_fail(e, rc, "%s", why.msg);
    }
    if (tune_interrupted(r->t, step, extra, &saved) != DAN_ECANCELLED) return dan_fail(e, rc, "%s; no checkpoint could be written: %s", why.msg, saved.msg);
    return dan_fail(e, rc, "%s; the run stops, saved as of step %lld: go on with danlu %s --resume %s", why.msg, (long long)step, r->t->cli->path, r->t->o.out);
}
