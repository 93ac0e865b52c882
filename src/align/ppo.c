#include "align/ppo.h"
#include <math.h>
#include <string.h>
#include "align/scalar.h"
#include "align/shuffle.h"
#include "base/mem.h"
#include "base/str.h"

enum { ORDER = 3, PTX = 4 };                   /* which of the seed's lists (shuffle.h) */

struct dan_ppo_work {
    struct dan_packed pack;
    float  *out, *weight;                      /* [max_rows]; [max_rows + 1] */
    int64_t *packed, *row;                     /* episodes of the pack and their first rows, [max_rows] */
    int64_t *ptx_order, ptx_epoch;
    int64_t *first, *order;                    /* token 0 of each episode, and the end, [n + 1]; episodes of an epoch, [n] */
    double *old, *ref, *value, *reward, *advantage, *returns, *policy_loss, *value_loss;    /* [tokens], one piece of memory */
    int64_t tokens;
};

int dan_ppo_init(struct dan_ppo *p, struct dan_tuner *policy, struct dan_tuner *critic, struct dan_tuner *ref, const struct dan_sft_data *ptx,
                 const struct dan_ppo_opts *o, const struct dan_kl_control *kl, int64_t max_rows, struct dan_err *e)
{
    struct dan_ppo_work *w = dan_calloc(1, sizeof *w);
    size_t rows = (size_t)max_rows;
    *p = (struct dan_ppo){.policy = policy, .critic = critic, .ref = ref, .ptx = o->ptx_coef > 0 ? ptx : NULL, .o = *o, .kl = *kl, .work = w};
    int rc = w ? dan_packed_init(&w->pack, max_rows, e) : DAN_ENOMEM;
    if (w) {
        w->ptx_epoch = -1;
        w->out = dan_malloc(rows * sizeof *w->out);
        w->weight = dan_malloc((rows + 1) * sizeof *w->weight);
        w->packed = dan_malloc(rows * sizeof *w->packed);
        w->row = dan_malloc(rows * sizeof *w->row);
        w->ptx_order = dan_malloc(((ptx ? ptx->n : 0) + 1) * sizeof *w->ptx_order);
        if (!w->out || !w->weight || !w->packed || !w->row || !w->ptx_order) rc = DAN_ENOMEM;
    }
    if (rc) {
        dan_ppo_release(p);
        return dan_fail(e, DAN_ENOMEM, "not enough memory for ppo on runs of %lld rows", (long long)max_rows);
    }
    return DAN_OK;
}

void dan_ppo_release(struct dan_ppo *p)
{
    struct dan_ppo_work *w = p->work;
    if (w) {
        dan_packed_release(&w->pack);
        dan_free(w->out);
        dan_free(w->weight);
        dan_free(w->packed);
        dan_free(w->row);
        dan_free(w->ptx_order);
        dan_free(w->first);
        dan_free(w->order);
        dan_free(w->old);
        dan_free(w);
    }
    *p = (struct dan_ppo){0};
}

struct dan_ppo_trace dan_ppo_last(const struct dan_ppo *p)
{
    const struct dan_ppo_work *w = p->work;
    return (struct dan_ppo_trace){w->tokens, w->old, w->ref, w->value, w->reward, w->advantage, w->returns, w->policy_loss, w->value_loss};
}

static int make_room(struct dan_ppo_work *w, const struct dan_episode *ep, int64_t n, struct dan_err *e)
{
    dan_free(w->first);
    dan_free(w->order);
    dan_free(w->old);
    w->tokens = 0;
    w->old = NULL;
    w->first = dan_malloc((size_t)(n + 1) * sizeof *w->first);
    w->order = dan_malloc((size_t)n * sizeof *w->order);
    for (int64_t i = 0; i < n && w->first; i++) {
        w->first[i] = w->tokens;
        w->tokens += ep[i].n - ep[i].prompt;
    }
    size_t tokens = (size_t)w->tokens;
    double **const part[] = {&w->old, &w->ref, &w->value, &w->reward, &w->advantage, &w->returns, &w->policy_loss, &w->value_loss};
    enum { PARTS = sizeof part / sizeof *part };
    w->old = dan_calloc(tokens * PARTS, sizeof *w->old);
    if (!w->first || !w->order || !w->old) return dan_fail(e, DAN_ENOMEM, "not enough memory for the %lld answers of an update", (long long)n);
    w->first[n] = w->tokens;
    for (size_t i = 1; i < PARTS; i++) *part[i] = w->old + i * tokens;
    return DAN_OK;
}

/* One way over episodes: runs of as many as fit, and what to do with each answer's token. */
struct sweep {
    struct dan_ppo *p;
    const struct dan_episode *ep;
    struct dan_tuner *tuner;
    bool exact, learn;                         /* of a forward that does not learn: by the program that does */
    void (*token)(struct sweep *s, int64_t t, double out, float *weight);    /* out: nats of the token, or the value before it */
    double by;                                 /* tokens of the minibatch */
    double loss, clipped, ratio, kl;           /* sums, then means */
};

static int each_token(void *ctx, const float *out, struct dan_packed *pack, struct dan_err *e)
{
    struct sweep *s = ctx;
    const struct dan_ppo_work *w = s->p->work;
    (void)e;
    for (int64_t k = 0; k < pack->sequences; k++) {
        const struct dan_episode *ep = &s->ep[w->packed[k]];
        int64_t row = w->row[k] + ep->prompt - 1, first = w->first[w->packed[k]];
        for (int64_t t = 0; t < ep->n - ep->prompt; t++) s->token(s, first + t, (double)out[row + t], &pack->batch.weights[row + t]);
    }
    return DAN_OK;
}

static int flush(struct sweep *s, struct dan_err *e)
{
    struct dan_ppo_work *w = s->p->work;
    int rc = DAN_OK;
    if (w->pack.batch.rows && s->learn) rc = dan_tuner_run(s->tuner, &w->pack, each_token, s, e);
    else if (w->pack.batch.rows) {
        rc = dan_tuner_score(s->tuner, &w->pack, s->exact, w->out, e);
        if (!rc) rc = each_token(s, w->out, &w->pack, e);
    }
    dan_packed_clear(&w->pack);
    return rc;
}

static int sweep(struct sweep *s, const int64_t *which, int64_t n, struct dan_err *e)
{
    struct dan_ppo_work *w = s->p->work;
    int rc = DAN_OK;
    dan_packed_clear(&w->pack);
    for (int64_t i = 0; i < n && !rc; i++) {
        int64_t k = which ? which[i] : i;
        if (!dan_packed_fits(&w->pack, s->ep[k].n)) rc = flush(s, e);
        if (rc) break;
        w->packed[w->pack.sequences] = k;
        w->row[w->pack.sequences] = w->pack.batch.rows;
        dan_packed_add_answer(&w->pack, s->ep[k].ids, s->ep[k].n, s->ep[k].prompt);
    }
    return rc ? rc : flush(s, e);
}

static void take_old(struct sweep *s, int64_t t, double out, float *weight) { (void)weight; s->p->work->old[t] = -out; }
static void take_ref(struct sweep *s, int64_t t, double out, float *weight) { (void)weight; s->p->work->ref[t] = -out; }
static void take_value(struct sweep *s, int64_t t, double out, float *weight) { (void)weight; s->p->work->value[t] = out; }

static int score_all(struct dan_ppo *p, const struct dan_episode *ep, int64_t n, struct dan_err *e)
{
    struct dan_ppo_work *w = p->work;
    struct sweep policy = {.p = p, .ep = ep, .tuner = p->policy, .exact = true, .token = take_old};
    struct sweep ref = {.p = p, .ep = ep, .tuner = p->ref, .token = take_ref};
    struct sweep critic = {.p = p, .ep = ep, .tuner = p->critic, .exact = true, .token = take_value};
    int rc = sweep(&policy, NULL, n, e);
    if (!rc && p->ref) rc = sweep(&ref, NULL, n, e);
    if (!rc && !p->ref) memcpy(w->ref, w->old, (size_t)w->tokens * sizeof *w->ref);
    if (!rc) rc = sweep(&critic, NULL, n, e);
    for (int64_t t = 0; t < w->tokens && !rc; t++) {
        const char *what = !isfinite(w->old[t]) ? "policy's log-probabilities are" : !isfinite(w->ref[t]) ? "reference's log-probabilities are"
                           : !isfinite(w->value[t]) ? "critic's values are" : NULL;
        if (what) rc = dan_fail(e, DAN_EINVAL, "the %s not finite in update %lld; lower --lr or --critic-lr", what, (long long)p->updates + 1);
    }
    return rc;
}

static double variance(const double *x, const double *y, int64_t n)      /* of x - y; y NULL: of x */
{
    double mean = 0, ss = 0;
    for (int64_t i = 0; i < n; i++) mean += (x[i] - (y ? y[i] : 0)) / (double)n;
    for (int64_t i = 0; i < n; i++) ss += pow(x[i] - (y ? y[i] : 0) - mean, 2) / (double)n;
    return ss;
}

/* Rewards, advantages and returns of all tokens, and the objective's means. */
static void credit(struct dan_ppo *p, const struct dan_episode *ep, int64_t n, struct dan_ppo_stats *out)
{
    struct dan_ppo_work *w = p->work;
    const struct dan_ppo_opts *o = &p->o;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = w->first[i], tokens = w->first[i + 1] - at;
        double score = ep[i].score - (ep[i].ended ? 0 : o->missing_eos_penalty), kl = 0;
        if (o->score_clip > 0) score = dan_clamp(score, -o->score_clip, o->score_clip);
        dan_kl_rewards(w->old + at, w->ref + at, tokens, p->kl.beta, score, w->reward + at);
        for (int64_t t = at; t < at + tokens; t++) {
            kl += w->old[t] - w->ref[t];
            out->entropy -= w->old[t] / (double)n;
        }
        out->kl += kl / (double)n;
        out->scores += score / (double)n;
        out->non_score_reward -= p->kl.beta * kl / (double)n;
        out->eos += ep[i].ended;
    }
    out->rlhf_reward = out->scores + out->non_score_reward;
    if (o->whiten_rewards) dan_whiten(w->reward, w->tokens, false, true);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = w->first[i];
        dan_gae(w->reward + at, w->value + at, w->first[i + 1] - at, o->gamma, o->lambda, w->advantage + at, w->returns + at);
    }
    double spread = variance(w->returns, NULL, w->tokens);
    out->explained_variance = spread > 0 ? 1 - variance(w->returns, w->value, w->tokens) / spread : 0;
    if (o->whiten_advantages) dan_whiten(w->advantage, w->tokens, true, true);
}

static void policy_token(struct sweep *s, int64_t t, double out, float *weight)
{
    struct dan_ppo_work *w = s->p->work;
    double seed, clip = s->p->o.clip, apart = -out - w->old[t];
    bool clipped;
    w->policy_loss[t] = dan_ppo_loss(-out, w->old[t], w->advantage[t], clip, clip, &seed, &clipped);
    s->loss += w->policy_loss[t];
    s->clipped += clipped;
    s->ratio += exp(apart);
    s->kl += apart * apart / 2;
    *weight = (float)(-seed / s->by);
}

static void value_token(struct sweep *s, int64_t t, double out, float *weight)
{
    struct dan_ppo_work *w = s->p->work;
    double seed;
    bool clipped;
    w->value_loss[t] = dan_value_loss(out, w->value[t], w->returns[t], s->p->o.value_clip, &seed, &clipped);
    s->loss += w->value_loss[t];
    s->clipped += clipped;
    *weight = (float)(s->p->o.vf_coef * seed / s->by);
}

/* Adds ptx_coef * mean loss of the next windows of text. */
static int add_ptx(struct dan_ppo *p, double *loss, struct dan_err *e)
{
    struct dan_ppo_work *w = p->work;
    const struct dan_sft_data *d = p->ptx;
    int64_t windows = p->o.ptx_windows, learnt = 0;
    int rc = DAN_OK;
    double sum = 0;
    for (int64_t i = 0; i < windows; i++)
        learnt += d->v[dan_shuffled(w->ptx_order, (int64_t)d->n, &w->ptx_epoch, p->o.seed, PTX, p->ptx_at + i)].learnt;
    dan_packed_clear(&w->pack);
    for (int64_t i = 0; i <= windows && !rc; i++) {
        const struct dan_sft_row *r =
            i < windows ? &d->v[dan_shuffled(w->ptx_order, (int64_t)d->n, &w->ptx_epoch, p->o.seed, PTX, p->ptx_at + i)] : NULL;
        if (w->pack.batch.rows && (!r || !dan_packed_fits(&w->pack, r->n))) {
            rc = dan_tuner_add(p->policy, &w->pack, w->out, e);
            for (int64_t k = 0; k < w->pack.batch.rows && !rc; k++) sum += w->pack.batch.weights[k] != 0 ? (double)w->out[k] : 0;
            dan_packed_clear(&w->pack);
        }
        if (!r || rc) continue;
        for (int64_t k = 0; k < r->n; k++) w->weight[k] = r->learn[k] ? (float)(p->o.ptx_coef / (double)learnt) : 0;
        dan_packed_add(&w->pack, r->ids, r->n, w->weight);
    }
    p->ptx_at += windows;
    *loss = sum / (double)(learnt ? learnt : 1);
    return rc;
}

/* The sums of gradients as one vector: its length and, with `from`, that of its distance from an earlier one; with `to`, a copy. */
static double sums(struct dan_tuner *t, const float *from, float *to)
{
    struct dan_store *s = dan_tuner_state(t);
    double ss = 0;
    int64_t at = 0;
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const struct dan_tensor *x = dan_store_at(s, i);
        if (!dan_str_starts(dan_store_name(s, i), "sum:")) continue;
        for (int64_t k = 0; k < dan_shape_count(&x->shape); k++, at++) {
            float g = ((const float *)x->data)[k];
            double d = (double)g - (from ? (double)from[at] : 0);
            ss += d * d;
            if (to) to[at] = g;
        }
    }
    return sqrt(ss);
}

/* The pre-training part; how the two parts of the gradient compare is measured in the update's first minibatch. */
static int mix(struct dan_ppo *p, struct dan_ppo_stats *out, struct dan_err *e)
{
    bool first = out->minibatches == 0;
    double loss;
    if (!p->ptx) return DAN_OK;
    float *policy = first ? dan_malloc((size_t)dan_tuner_params(p->policy) * sizeof *policy) : NULL;
    if (first && !policy) return dan_fail(e, DAN_ENOMEM, "not enough memory to compare gradients");
    if (first) out->policy_norm = sums(p->policy, NULL, policy);
    int rc = add_ptx(p, &loss, e);
    if (!rc) out->ptx_loss += loss;
    if (!rc && first) out->ptx_norm = sums(p->policy, policy, NULL);
    dan_free(policy);
    return rc;
}

static void count(struct dan_ppo_stats *out, const struct sweep *policy, const struct sweep *critic)
{
    if (out->minibatches == 0) {
        out->first_ratio = policy->ratio;
        out->first_approxkl = policy->kl;
    }
    out->approxkl += policy->kl;
    out->clipfrac += policy->clipped;
    out->policy_loss += policy->loss;
    out->value_loss += critic->loss;
    out->value_clipfrac += critic->clipped;
    out->ratio += policy->ratio;
    out->ratio_var += policy->ratio * policy->ratio;
    out->minibatches++;
}

static void average(struct dan_ppo_stats *out)
{
    double m = (double)out->minibatches;
    double *const sum[] = {&out->approxkl, &out->clipfrac, &out->policy_loss, &out->value_loss, &out->value_clipfrac, &out->ratio, &out->ratio_var, &out->ptx_loss};
    for (size_t i = 0; i < sizeof sum / sizeof *sum; i++) *sum[i] /= m;
    out->ratio_var = fmax(0, out->ratio_var - out->ratio * out->ratio);
}

static void divide(struct sweep *s)
{
    s->loss /= s->by;
    s->clipped /= s->by;
    s->ratio /= s->by;                         /* of ones: exactly 1 */
    s->kl /= s->by;
}

static int minibatch(struct dan_ppo *p, const struct dan_episode *ep, const int64_t *which, int64_t n, double lr, double critic_lr, struct dan_ppo_stats *out,
                     struct dan_err *e)
{
    const struct dan_ppo_work *w = p->work;
    double tokens = 0;
    for (int64_t i = 0; i < n; i++) tokens += (double)(w->first[which[i] + 1] - w->first[which[i]]);
    struct sweep policy = {.p = p, .ep = ep, .tuner = p->policy, .learn = true, .token = policy_token, .by = tokens};
    struct sweep critic = {.p = p, .ep = ep, .tuner = p->critic, .learn = true, .token = value_token, .by = tokens};
    int rc = sweep(&policy, which, n, e);
    if (!rc) rc = sweep(&critic, which, n, e);
    divide(&policy);
    divide(&critic);
    if (!rc && !isfinite(policy.loss + critic.loss))
        rc = dan_fail(e, DAN_EINVAL, "the %s loss became %g in update %lld; lower --%s", isfinite(policy.loss) ? "value" : "policy",
                      isfinite(policy.loss) ? critic.loss : policy.loss, (long long)p->updates + 1, isfinite(policy.loss) ? "critic-lr" : "lr");
    if (!rc) rc = mix(p, out, e);
    if (!rc) rc = dan_tuner_step(p->policy, lr, &out->grad_norm, e);
    if (!rc) rc = dan_tuner_step(p->critic, critic_lr, &out->critic_norm, e);
    if (!rc) count(out, &policy, &critic);
    return !rc && p->o.max_approxkl > 0 && policy.kl > p->o.max_approxkl ? 1 : rc;      /* 1: enough */
}

static int learn(struct dan_ppo *p, const struct dan_episode *ep, int64_t n, double lr, double critic_lr, struct dan_ppo_stats *out, struct dan_err *e)
{
    struct dan_ppo_work *w = p->work;
    int64_t parts = p->o.minibatches < n ? p->o.minibatches : n, shuffled = -1;
    int rc = DAN_OK;
    for (int64_t epoch = 0; epoch < p->o.epochs && !rc; epoch++) {
        int64_t number = p->updates * p->o.epochs + epoch;
        dan_shuffled(w->order, n, &shuffled, p->o.seed, ORDER, number * n);
        for (int64_t m = 0; m < parts && !rc; m++)
            rc = minibatch(p, ep, w->order + n * m / parts, n * (m + 1) / parts - n * m / parts, lr, critic_lr, out, e);
    }
    return rc > 0 ? DAN_OK : rc;
}

static int check(const struct dan_ppo *p, const struct dan_episode *ep, int64_t n, struct dan_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        DAN_ASSERT(ep[i].prompt >= 1 && ep[i].n > ep[i].prompt && ep[i].n <= p->work->pack.max_rows + 1);
        if (!isfinite(ep[i].score))
            return dan_fail(e, DAN_EINVAL, "the score of answer %lld in update %lld is %g; a reward must be a finite number", (long long)i + 1,
                            (long long)p->updates + 1, ep[i].score);
    }
    return n > 0 ? DAN_OK : dan_fail(e, DAN_EINVAL, "there is no answer to learn from in update %lld", (long long)p->updates + 1);
}

int dan_ppo_update(struct dan_ppo *p, const struct dan_episode *ep, int64_t n, double lr, double critic_lr, struct dan_ppo_stats *out, struct dan_err *e)
{
    *out = (struct dan_ppo_stats){.answers = n, .kl_coef = p->kl.beta};
    int rc = check(p, ep, n, e);
    if (!rc) rc = make_room(p->work, ep, n, e);
    if (rc) return rc;
    out->tokens = p->work->tokens;
    rc = score_all(p, ep, n, e);
    if (rc) return rc;
    credit(p, ep, n, out);
    rc = learn(p, ep, n, lr, critic_lr, out, e);
    if (out->minibatches) average(out);
    if (rc) return rc;
    dan_kl_control_update(&p->kl, out->kl, n);
    p->updates++;
    return DAN_OK;
}
