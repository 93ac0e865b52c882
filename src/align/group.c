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
        a->row[a->n++] = dan_packed_add(a->pack, s->ids, s->n, NULL) + s->n_prompt - 1;
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

/* Log-probabilities of the answers' tokens, one answer after the other: out[said->tokens].  exact: by the program that trains. */
static int said_logp(struct dan_tuner *t, const struct dan_rollouts *said, bool exact, struct dan_packed *pack, double *out, struct dan_err *e)
{
    size_t n = said->n + 1;
    int64_t *memory = dan_malloc(3 * n * sizeof *memory);
    float *nll = dan_malloc((size_t)pack->max_rows * sizeof *nll);
    int rc = memory && nll ? check_lengths(said, pack, e) : no_memory(e);
    struct packed_answers a = {said, pack, memory, memory + n, 0};
    if (!rc) offsets(said, memory + 2 * n);
    for (int64_t at = 0; at < (int64_t)said->n && !rc;) {
        at = fill(&a, NULL, at, (int64_t)said->n);
        rc = dan_tuner_score(t, pack, exact, nll, e);
        for (int64_t k = 0; k < a.n && !rc; k++)
            for (int64_t i = 0; i < dan_said_tokens(&said->v[a.of[k]]); i++) out[memory[2 * n + (size_t)a.of[k]] + i] = -(double)nll[a.row[k] + i];
    }
    dan_free(memory);
    dan_free(nll);
    return rc;
}

/* ---- an update ---- */

struct update {
    struct dan_grpo *g;
    const struct dan_rollouts *said;
    struct dan_grpo_stats *out;
    struct packed_answers packed;
    int64_t *at, *order, *memory;              /* at: of each answer's tokens; order: shuffled answers that have a loss */
    double *old, *ref, *advantage, *reward;    /* per token, per token, per answer, per answer */
    double *doubles;
    int64_t n_order;
    /* of the minibatch */
    int64_t answers, tokens;                   /* that count */
    double  sum_k, sum_ratio, furthest, low, high, loss;
};

static int start(struct update *u, struct dan_err *e)
{
    size_t n = u->said->n + 1, tokens = (size_t)u->said->tokens + 1;
    u->memory = dan_calloc(4 * n, sizeof *u->memory);
    u->doubles = dan_calloc(2 * tokens + 2 * n, sizeof *u->doubles);
    if (!u->memory || !u->doubles) return no_memory(e);
    u->at = u->memory;
    u->order = u->memory + n;
    u->packed = (struct packed_answers){u->said, &u->g->pack, u->memory + 2 * n, u->memory + 3 * n, 0};
    u->old = u->doubles;
    u->ref = u->old + tokens;
    u->advantage = u->ref + tokens;
    u->reward = u->advantage + n;
    offsets(u->said, u->at);
    return check_lengths(u->said, &u->g->pack, e);
}

static int score(struct update *u, struct dan_err *e)
{
    int rc = said_logp(u->g->policy, u->said, true, &u->g->pack, u->old, e);
    if (!rc && u->g->ref) rc = said_logp(u->g->ref, u->said, false, &u->g->pack, u->ref, e);
    for (int64_t t = 0; t < u->said->tokens && !rc; t++) {
        if (!u->g->ref) u->ref[t] = u->old[t];
        if (!isfinite(u->old[t]) || !isfinite(u->ref[t])) rc = dan_fail(e, DAN_EINVAL, "the log-probability of an answer's token is not finite; lower --lr");
        u->out->kl += dan_kl_estimate(DAN_K3, u->old[t], u->ref[t]) / (double)u->said->tokens;
        u->out->entropy -= u->old[t] / (double)u->said->tokens;
        u->out->kl_answer += (u->old[t] - u->ref[t]) / (double)u->said->n;
    }
    return rc;
}

static void make_rewards(struct update *u, const double *score_of)
{
    for (size_t i = 0; i < u->said->n; i++) {
        double kl = 0;
        for (int64_t t = u->at[i]; t < u->at[i + 1]; t++) kl += u->old[t] - u->ref[t];
        u->reward[i] = u->g->o.kl == DAN_K1 ? score_of[i] - u->g->o.beta * kl : score_of[i];
        u->out->answers += !isnan(score_of[i]);
    }
}

/* Advantages in one group of those that have a reward.  The group teaches where two rewards differ. */
static bool group_advantages(struct update *u, size_t first, size_t n, double *r, double *a)
{
    int k = 0;
    bool flat = true;
    for (size_t i = 0; i < n; i++)
        if (!isnan(u->reward[first + i])) r[k++] = u->reward[first + i];
    for (int i = 1; i < k; i++) flat = flat && r[i] == r[0];
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
        for (size_t i = first; i < first + n; i++)
            if (has_loss(u, i) && (teaches || !u->g->o.drop_flat)) u->order[u->n_order++] = (int64_t)i;
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
    if (!rc) rc = score(&u, e);
    if (!rc) make_rewards(&u, score_of);
    if (!rc) rc = make_advantages(&u, e);
    if (!rc && u.n_order) {
        out->ratio = 0;
        rc = learn(&u, lr, e);
    }
    if (!rc) g->updates++;
    dan_free(u.memory);
    dan_free(u.doubles);
    return rc;
}
