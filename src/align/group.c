#include "align/group.h"
#include <math.h>
#include <string.h>
#include "align/shuffle.h"
#include "base/mem.h"

const struct dan_grpo_variant dan_grpo_variants[] = {
    {"grpo", "advantage (r - mean) / std, mean over each answer's tokens, k3 in the loss",
     {.advantage = DAN_GROUP_GRPO, .weight = DAN_WEIGHT_ANSWER, .kl = DAN_K3, .beta = 0.04, .low = 0.2, .high = 0.2, .epochs = 1, .minibatches = 1}},
    {"rloo", "advantage r - mean of the others, ratio of whole answers, k1 in the reward",
     {.advantage = DAN_GROUP_RLOO, .weight = DAN_WEIGHT_ANSWER, .whole = true, .kl = DAN_K1, .beta = 0.05, .low = 0.2, .high = 0.2, .epochs = 1, .minibatches = 1}},
    {"dr_grpo", "advantage r - mean, divided by a constant, no KL term",
     {.advantage = DAN_GROUP_DR_GRPO, .weight = DAN_WEIGHT_CONSTANT, .kl = DAN_K3, .low = 0.2, .high = 0.2, .epochs = 1, .minibatches = 1}},
    {"dapo", "advantage (r - mean) / std, mean over all tokens, asymmetric clip, groups without a difference left out, no KL term",
     {.advantage = DAN_GROUP_GRPO, .weight = DAN_WEIGHT_STEP, .drop_flat = true, .kl = DAN_K3, .low = 0.2, .high = 0.28, .epochs = 1, .minibatches = 1}},
    {.name = NULL}};

const struct dan_grpo_variant *dan_grpo_variant_find(const char *name)
{
    for (const struct dan_grpo_variant *v = dan_grpo_variants; v->name; v++)
        if (!strcmp(v->name, name)) return v;
    return NULL;
}

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for an update of the policy"); }

int dan_grpo_init(struct dan_grpo *g, struct dan_tuner *policy, struct dan_tuner *ref, const struct dan_grpo_opts *o, int64_t max_rows, struct dan_err *e)
{
    *g = (struct dan_grpo){.policy = policy, .ref = ref, .o = *o};
    return dan_packed_init(&g->pack, max_rows, e);
}

void dan_grpo_release(struct dan_grpo *g) { dan_packed_release(&g->pack); }

/* ---- packs of whole answers: of[k] is the k-th answer of the pack, whose first answer token is predicted by row[k] ---- */

struct packed_answers { const struct dan_rollouts *said; struct dan_packed *pack; int64_t *of, *row, n; };

/* Takes answers order[at ..] as long as they fit; the next one. */
static int64_t fill(struct packed_answers *a, const int64_t *order, int64_t at, int64_t end)
{
    dan_packed_clear(a->pack);
    for (a->n = 0; at < end; at++) {
        const struct dan_said *s = &a->said->v[order ? order[at] : at];
        if (!dan_packed_fits(a->pack, s->n)) break;
        a->of[a->n] = order ? order[at] : at;
        a->row[a->n++] = dan_packed_add_answer(a->pack, s->ids, s->n, s->n_prompt) + s->n_prompt - 1;
    }
    return at;
}

static int check_lengths(const struct dan_rollouts *said, const struct dan_packed *pack, struct dan_err *e)
{
    for (size_t i = 0; i < said->n; i++)
        if (said->v[i].n - 1 > pack->max_rows)
            return dan_fail(e, DAN_EINVAL, "an answer of %lld ids does not fit in runs of %lld rows; raise --rows", (long long)said->v[i].n, (long long)pack->max_rows);
    return DAN_OK;
}

/* Where each answer's tokens begin; at[n] is their number. */
static void offsets(const struct dan_rollouts *said, int64_t *at)
{
    at[0] = 0;
    for (size_t i = 0; i < said->n; i++) at[i + 1] = at[i] + dan_said_tokens(&said->v[i]);
}

/* ---- an update ---- */

struct update {
    struct dan_grpo *g;
    const struct dan_rollouts *said;
    struct dan_grpo_stats *out;
    struct packed_answers packed;
    int64_t *at, *order, *rest, *memory;       /* at: of each answer's tokens; order: shuffled answers that have a loss; rest: those that have none */
    double *old, *ref, *advantage, *reward;    /* per token, per token, per answer, per answer */
    double *doubles;
    int64_t n_order, n_rest;
    bool    once;                              /* the forward of the one minibatch gives the old log-probabilities, too */
    /* of the minibatch */
    int64_t answers, tokens;                   /* that count */
    double  sum_k, sum_ratio, furthest, low, high, loss;
};

static int start(struct update *u, struct dan_err *e)
{
    size_t n = u->said->n + 1, tokens = (size_t)u->said->tokens + 1;
    u->memory = dan_calloc(5 * n, sizeof *u->memory);
    u->doubles = dan_calloc(2 * tokens + 2 * n, sizeof *u->doubles);
    if (!u->memory || !u->doubles) return no_memory(e);
    u->at = u->memory;
    u->order = u->memory + n;
    u->rest = u->memory + 2 * n;
    u->packed = (struct packed_answers){u->said, &u->g->pack, u->memory + 3 * n, u->memory + 4 * n, 0};
    u->old = u->doubles;
    u->ref = u->old + tokens;
    u->advantage = u->ref + tokens;
    u->reward = u->advantage + n;
    offsets(u->said, u->at);
    return check_lengths(u->said, &u->g->pack, e);
}

/* Log-probabilities of the tokens of the packed answers, to each answer's place of out[said->tokens]. */
static int take_logp(const struct update *u, const float *nll, double *out, struct dan_err *e)
{
    for (int64_t k = 0; k < u->packed.n; k++) {
        int64_t first = u->at[u->packed.of[k]], n = u->at[u->packed.of[k] + 1] - first;
        for (int64_t t = 0; t < n; t++) {
            out[first + t] = -(double)nll[u->packed.row[k] + t];
            if (!isfinite(out[first + t])) return dan_fail(e, DAN_EINVAL, "the log-probability of an answer's token is not finite; lower --lr");
        }
    }
    return DAN_OK;
}

/* The same of answers which[n] (NULL: the first n) under a tuner.  exact: by the program that trains. */
static int score(struct update *u, struct dan_tuner *t, bool exact, const int64_t *which, int64_t n, double *out, struct dan_err *e)
{
    float *nll = dan_malloc((size_t)u->g->pack.max_rows * sizeof *nll);
    int rc = nll ? DAN_OK : no_memory(e);
    for (int64_t at = 0; at < n && !rc;) {
        at = fill(&u->packed, which, at, n);
        rc = dan_tuner_score(t, &u->g->pack, exact, nll, e);
        if (!rc) rc = take_logp(u, nll, out, e);
    }
    dan_free(nll);
    return rc;
}

static bool kl_in_reward(const struct dan_grpo *g) { return g->o.kl == DAN_K1 && g->o.beta > 0 && g->ref; }

/* What rewards are made of.  The policy's are needed here where they are part of a reward or where steps come between them and the last minibatch. */
static int score_all(struct update *u, struct dan_err *e)
{
    struct dan_grpo *g = u->g;
    int64_t n = (int64_t)u->said->n;
    u->once = g->o.epochs * g->o.minibatches == 1 && !kl_in_reward(g);
    int rc = g->ref ? score(u, g->ref, false, NULL, n, u->ref, e) : DAN_OK;
    return rc || u->once ? rc : score(u, g->policy, true, NULL, n, u->old, e);
}

/* Of all answers, those without a loss as well. */
static void measure(struct update *u)
{
    const double *ref = u->g->ref ? u->ref : u->old;
    for (int64_t t = 0; t < u->said->tokens; t++) {
        u->out->kl += dan_kl_estimate(DAN_K3, u->old[t], ref[t]) / (double)u->said->tokens;
        u->out->entropy -= u->old[t] / (double)u->said->tokens;
        u->out->kl_answer += (u->old[t] - ref[t]) / (double)u->said->n;
    }
}

static void make_rewards(struct update *u, const double *score_of)
{
    for (size_t i = 0; i < u->said->n; i++) {
        double kl = 0;
        for (int64_t t = u->at[i]; t < u->at[i + 1] && kl_in_reward(u->g); t++) kl += u->old[t] - u->ref[t];
        u->reward[i] = score_of[i] - u->g->o.beta * kl;
        u->out->answers += !isnan(score_of[i]);
    }
}

/* Advantages in one group of those that have a reward.  The group teaches where two rewards differ. */
static bool group_advantages(struct update *u, size_t first, size_t n, double *r, double *a)
{
    int k = 0;
    bool flat = dan_group_flat(u->reward + first, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        if (!isnan(u->reward[first + i])) r[k++] = u->reward[first + i];
    if (k > 1) dan_group_advantages(u->g->o.advantage, r, k, a);
    k = 0;
    for (size_t i = 0; i < n; i++)
        u->advantage[first + i] = isnan(u->reward[first + i]) || flat ? 0 : a[k++];
    return !flat;
}

static bool has_loss(const struct update *u, size_t i)
{
    return !isnan(u->reward[i]) && dan_said_tokens(&u->said->v[i]) > 0 && !(u->g->o.mask_truncated && !u->said->v[i].ended);
}

static int make_advantages(struct update *u, struct dan_err *e)
{
    size_t n = (size_t)u->said->samples;
    double *r = dan_malloc(2 * n * sizeof *r);
    if (!r) return no_memory(e);
    for (size_t first = 0; first < u->said->n; first += n) {
        bool teaches = group_advantages(u, first, n, r, r + n);
        u->out->flat += !teaches;
        for (size_t i = first; i < first + n; i++) {
            if (has_loss(u, i) && (teaches || !u->g->o.drop_flat)) u->order[u->n_order++] = (int64_t)i;
            else u->rest[u->n_rest++] = (int64_t)i;
        }
    }
    u->out->learnt = u->n_order;
    dan_free(r);
    return DAN_OK;
}

/* Weights of one answer's rows: the tuner's loss is weight * -logp, so a weight is minus the derivative by logp. */
static void seed_tokens(struct update *u, int64_t i, int64_t row, const float *nll)
{
    const struct dan_grpo_opts *o = &u->g->o;
    int64_t n = u->at[i + 1] - u->at[i];
    double w = dan_token_weight(o->weight, u->answers, n, u->tokens, o->most_tokens);
    for (int64_t t = 0; t < n; t++) {
        double now = -(double)nll[row + t], old = u->old[u->at[i] + t], seed, kl_seed = 0;
        bool clipped;
        u->loss += w * dan_ppo_loss(now, old, u->advantage[i], o->low, o->high, &seed, &clipped);
        if (o->kl != DAN_K1 && o->beta > 0 && u->g->ref) u->loss += w * o->beta * dan_kl_loss(o->kl, now, u->ref[u->at[i] + t], &kl_seed);
        u->g->pack.batch.weights[row + t] = (float)(-w * (seed + o->beta * kl_seed));
        u->low += clipped && u->advantage[i] < 0;
        u->high += clipped && u->advantage[i] > 0;
    }
}

static void seed_whole(struct update *u, int64_t i, int64_t row, const float *nll)
{
    const struct dan_grpo_opts *o = &u->g->o;
    int64_t n = u->at[i + 1] - u->at[i];
    double now = 0, old = 0, seed, w = 1 / (double)u->answers;
    bool clipped;
    for (int64_t t = 0; t < n; t++) now -= (double)nll[row + t], old += u->old[u->at[i] + t];
    u->loss += w * dan_ppo_loss(now, old, u->advantage[i], o->low, o->high, &seed, &clipped);
    for (int64_t t = 0; t < n; t++) {
        double kl_seed = 0;
        if (o->kl != DAN_K1 && o->beta > 0 && u->g->ref) u->loss += w * o->beta * dan_kl_loss(o->kl, -(double)nll[row + t], u->ref[u->at[i] + t], &kl_seed);
        u->g->pack.batch.weights[row + t] = (float)(-w * (seed + o->beta * kl_seed));
    }
    u->low += clipped && u->advantage[i] < 0 ? (double)n : 0;
    u->high += clipped && u->advantage[i] > 0 ? (double)n : 0;
}

static int seed_rows(void *ctx, const float *nll, struct dan_packed *p, struct dan_err *e)
{
    struct update *u = ctx;
    int rc = u->once ? take_logp(u, nll, u->old, e) : DAN_OK;
    if (rc) return rc;
    memset(p->batch.weights, 0, (size_t)p->batch.rows * sizeof *p->batch.weights);
    for (int64_t k = 0; k < u->packed.n; k++) {
        int64_t i = u->packed.of[k], row = u->packed.row[k];
        for (int64_t t = 0; t < u->at[i + 1] - u->at[i]; t++) {
            double d = -(double)nll[row + t] - u->old[u->at[i] + t], ratio = exp(d);
            u->sum_k += d * d / 2;
            u->sum_ratio += ratio;
            u->furthest = fmax(u->furthest, fabs(ratio - 1));
        }
        (u->g->o.whole ? seed_whole : seed_tokens)(u, i, row, nll);
    }
    return isfinite(u->loss) ? DAN_OK : dan_fail(e, DAN_EINVAL, "the loss became %s; lower --lr, or --epochs-per-batch", isnan(u->loss) ? "nan" : "infinite");
}

static void begin_minibatch(struct update *u, int64_t from, int64_t to)
{
    u->answers = to - from;
    u->tokens = 0;
    for (int64_t k = from; k < to; k++) u->tokens += dan_said_tokens(&u->said->v[u->order[k]]);
    u->sum_k = u->sum_ratio = u->furthest = u->low = u->high = u->loss = 0;
}

/* done: minibatches before this one. */
static void end_minibatch(struct update *u, int64_t done, int64_t all)
{
    struct dan_grpo_stats *s = u->out;
    double tokens = (double)u->tokens, part = 1 / (double)all;
    if (done == 0) {
        s->first_approxkl = u->sum_k / tokens;
        s->first_ratio = 1 + u->furthest;
    }
    s->loss += part * u->loss;
    s->approxkl += part * u->sum_k / tokens;
    s->ratio += part * u->sum_ratio / tokens;
    s->clip_low += part * u->low / tokens;
    s->clip_high += part * u->high / tokens;
}

static int minibatch(struct update *u, int64_t from, int64_t to, double lr, struct dan_err *e)
{
    int rc = DAN_OK;
    begin_minibatch(u, from, to);
    for (int64_t at = from; at < to && !rc;) {
        at = fill(&u->packed, u->order, at, to);
        rc = dan_tuner_run(u->g->policy, &u->g->pack, seed_rows, u, e);
    }
    return rc ? rc : dan_tuner_step(u->g->policy, lr, &u->out->grad_norm, e);
}

static int learn(struct update *u, double lr, struct dan_err *e)
{
    int64_t parts = u->g->o.minibatches < u->n_order ? u->g->o.minibatches : u->n_order, all = parts * u->g->o.epochs, epoch = -1;
    int64_t *base = dan_malloc(((size_t)u->n_order + 1) * 2 * sizeof *base), *order = base ? base + u->n_order : NULL;
    int rc = base ? DAN_OK : no_memory(e);
    if (base) memcpy(base, u->order, (size_t)u->n_order * sizeof *base);
    for (int64_t k = 0; k < all && !rc; k++) {
        int64_t in_epoch = k % parts, from = u->n_order * in_epoch / parts, to = u->n_order * (in_epoch + 1) / parts;
        for (int64_t i = 0; i < u->n_order && in_epoch == 0; i++)
            u->order[i] = base[dan_shuffled(order, u->n_order, &epoch, u->g->o.seed, 1, (u->g->updates * u->g->o.epochs + k / parts) * u->n_order + i)];
        rc = minibatch(u, from, to, lr, e);
        if (!rc) end_minibatch(u, k, all);
    }
    dan_free(base);
    return rc;
}

int dan_grpo_update(struct dan_grpo *g, const struct dan_rollouts *said, const double *score_of, double lr, struct dan_grpo_stats *out, struct dan_err *e)
{
    struct update u = {.g = g, .said = said, .out = out};
    *out = (struct dan_grpo_stats){.tokens = said->tokens, .first_ratio = 1, .ratio = 1};
    int rc = start(&u, e);
    if (!rc) rc = score_all(&u, e);
    if (!rc) make_rewards(&u, score_of);
    if (!rc) rc = make_advantages(&u, e);
    if (!rc && u.once) rc = score(&u, g->policy, true, u.rest, u.n_rest, u.old, e);
    if (!rc && u.n_order) {
        out->ratio = 0;
        rc = learn(&u, lr, e);
    }
    if (!rc) {
        measure(&u);
        g->updates++;
    }
    dan_free(u.memory);
    dan_free(u.doubles);
    return rc;
}
