/* PPO, RLOO, GRPO and DPO on a task whose optimum is known in closed form: answers of 3 tokens out of 4, a uniform reference, reward = share
 * of token 0.  The policy is a table of logits by prefix.  Maximising E[r] - beta KL(policy || reference) gives policy ~ reference e^(r / beta):
 * every prefix puts q on token 0, q = e^(1 / (3 beta)) / (e^(1 / (3 beta)) + 3).  What rewards "go up" under any sign or scale land there under
 * the right ones alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "align/policy.h"
#include "align/pref.h"
#include "base/rng.h"

enum { V = 4, L = 3, NODES = 1 + V + V * V, ANSWERS = V * V * V, MOST = 256 };
static const double best_reward = 0.6383, best_kl = 1.0037;     /* at beta = .2 */

struct table { double logit[NODES][V], value[NODES]; bool flat; };      /* flat: a node is a position, not a prefix */
struct adam { struct table m, v; int t; };
struct answer { int token[L], node[L]; double old[L], advantage[L], returns[L]; };

static int child(const struct table *w, int node, int token) { return w->flat ? node + 1 : V * node + 1 + token; }

static void probabilities(const double *logit, double *p)
{
    double top = logit[0], sum = 0;
    for (int k = 1; k < V; k++) top = fmax(top, logit[k]);
    for (int k = 0; k < V; k++) sum += p[k] = exp(logit[k] - top);
    for (int k = 0; k < V; k++) p[k] /= sum;
}

static double reward(const int *token)
{
    int n = 0;
    for (int t = 0; t < L; t++) n += token[t] == 0;
    return (double)n / L;
}

static struct answer answer_of(const struct table *w, const int *token)
{
    struct answer a = {.node = {0}};
    double p[V];
    int node = 0;
    for (int t = 0; t < L; t++) {
        probabilities(w->logit[node], p);
        a.token[t] = token[t];
        a.node[t] = node;
        a.old[t] = log(p[token[t]]);
        node = child(w, node, token[t]);
    }
    return a;
}

static struct answer the_answer(const struct table *w, int i) { return answer_of(w, (const int[L]){i / (V * V), i / V % V, i % V}); }

/* E[r] and KL(policy || uniform), exact. */
static void exact(const struct table *w, double *mean, double *kl)
{
    *mean = *kl = 0;
    for (int i = 0; i < ANSWERS; i++) {
        struct answer a = the_answer(w, i);
        double logp = a.old[0] + a.old[1] + a.old[2];
        *mean += exp(logp) * reward(a.token);
        *kl += exp(logp) * (logp + L * log(V));
    }
}

static struct answer draw(const struct table *w, struct dan_rng *rng)
{
    double p[V];
    int node = 0, token[L];
    for (int t = 0; t < L; t++) {
        double u = dan_rng_uniform(rng);
        int k = 0;
        probabilities(w->logit[node], p);
        while (k < V - 1 && u > p[k]) u -= p[k++];
        token[t] = k;
        node = child(w, node, k);
    }
    return answer_of(w, token);
}

static void adam_step(struct adam *a, struct table *w, const struct table *g, double lr)
{
    double *x = &w->logit[0][0], *m = &a->m.logit[0][0], *v = &a->v.logit[0][0];
    const double *d = &g->logit[0][0];
    double by1 = 1 - pow(0.9, ++a->t), by2 = 1 - pow(0.999, a->t);
    for (size_t i = 0; i < NODES * (V + 1); i++) {
        m[i] = 0.9 * m[i] + 0.1 * d[i];
        v[i] = 0.999 * v[i] + 0.001 * d[i] * d[i];
        x[i] -= lr * (m[i] / by1) / (sqrt(v[i] / by2) + 1e-8);
    }
}

/* d / d logits of seed * log-probability of the token. */
static void add_seed(struct table *g, const struct table *w, int node, int token, double seed)
{
    double p[V];
    probabilities(w->logit[node], p);
    for (int k = 0; k < V; k++) g->logit[node][k] += seed * ((k == token) - p[k]);
}

struct task {
    double beta, lr, lambda, gamma_ptx;
    int batch, steps, epochs, group;
    bool whiten, flat;
    enum dan_group_advantage how;              /* with a group */
    bool kl_in_loss;                           /* k3; else k1 in the reward */
};

static void advantages_ppo(const struct task *k, const struct table *w, struct answer *a)
{
    static double all[MOST * L];
    const double ref[L] = {-log(V), -log(V), -log(V)};
    for (int i = 0; i < k->batch; i++) {
        double r[L], value[L];
        for (int t = 0; t < L; t++) value[t] = w->value[a[i].node[t]];
        dan_kl_rewards(a[i].old, ref, L, k->beta, reward(a[i].token), r);
        dan_gae(r, value, L, 1, k->lambda, a[i].advantage, a[i].returns);
        memcpy(all + i * L, a[i].advantage, sizeof a[i].advantage);
    }
    if (k->whiten) dan_whiten(all, (int64_t)k->batch * L, true, false);
    for (int i = 0; i < k->batch; i++) memcpy(a[i].advantage, all + i * L, sizeof a[i].advantage);
}

static void advantages_group(const struct task *k, struct answer *a)
{
    for (int first = 0; first < k->batch; first += k->group) {
        double r[MOST], advantage[MOST];
        for (int i = 0; i < k->group; i++) {
            const struct answer *b = &a[first + i];
            double kl = b->old[0] + b->old[1] + b->old[2] + L * log(V);
            r[i] = reward(b->token) - (k->kl_in_loss ? 0 : k->beta * kl);
        }
        dan_group_advantages(k->how, r, k->group, advantage);
        for (int i = 0; i < k->group; i++)
            for (int t = 0; t < L; t++) a[first + i].advantage[t] = advantage[i];
    }
}

static void gradient(const struct task *k, const struct table *w, const struct answer *a, struct table *g)
{
    memset(g, 0, sizeof *g);
    for (int i = 0; i < k->batch; i++) {
        struct answer now = answer_of(w, a[i].token);
        for (int t = 0; t < L; t++) {
            double seed, more = 0, back = 0;
            bool clipped;
            dan_ppo_loss(now.old[t], a[i].old[t], a[i].advantage[t], 0.2, 0.2, &seed, &clipped);
            if (k->kl_in_loss) dan_kl_loss(DAN_K3, now.old[t], -log(V), &more);
            add_seed(g, w, a[i].node[t], a[i].token[t], (seed + k->beta * more) / k->batch);
            if (!k->group) dan_value_loss(w->value[a[i].node[t]], w->value[a[i].node[t]], a[i].returns[t], 0, &back, &clipped);
            g->value[a[i].node[t]] += back / k->batch;
        }
    }
}

/* gamma * cross entropy on texts of 3 uniform tokens. */
static void add_ptx(double gamma, const struct table *w, struct table *g)
{
    for (int i = 0; i < ANSWERS && gamma > 0; i++) {
        struct answer a = the_answer(w, i);
        for (int t = 0; t < L; t++) add_seed(g, w, a.node[t], a.token[t], -gamma / ANSWERS);
    }
}

static struct table learn(const struct task *k, uint64_t seed)
{
    static struct answer a[MOST];
    struct table w = {.flat = k->flat}, g;
    struct adam adam = {0};
    struct dan_rng rng = {.seed = seed};
    for (int s = 0; s < k->steps; s++) {
        for (int i = 0; i < k->batch; i++) a[i] = draw(&w, &rng);
        if (k->group) advantages_group(k, a);
        else advantages_ppo(k, &w, a);
        for (int n = 0; n < k->epochs; n++) {
            gradient(k, &w, a, &g);
            add_ptx(k->gamma_ptx, &w, &g);
            adam_step(&adam, &w, &g, k->lr);
        }
    }
    return w;
}

static void near_to(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.4f, expected %.4f", what, got, want);
}

/* Means over two seeds. */
static void lands(const char *what, const struct task *k, double want, double want_kl, double tolerance, double tolerance_kl)
{
    double mean[2], kl[2];
    for (int s = 0; s < 2; s++) {
        struct table w = learn(k, (uint64_t)s + 1);
        exact(&w, &mean[s], &kl[s]);
    }
    double m = (mean[0] + mean[1]) / 2, d = (kl[0] + kl[1]) / 2;
    if (!(fabs(m - want) <= tolerance)) fail_msg("%s: E[r] %.4f (%.4f, %.4f), expected %.4f", what, m, mean[0], mean[1], want);
    if (!(fabs(d - want_kl) <= tolerance_kl)) fail_msg("%s: KL %.4f (%.4f, %.4f), expected %.4f", what, d, kl[0], kl[1], want_kl);
}

static const struct task ppo = {.beta = 0.2, .lr = 0.05, .lambda = 0.95, .batch = 128, .steps = 160, .epochs = 2, .whiten = true};

static void test_ppo(void **state)
{
    (void)state;
    struct task free_of_kl = ppo;
    free_of_kl.beta = 0;
    lands("ppo", &ppo, best_reward, best_kl, 0.006, 0.03);
    lands("ppo without a pull to the reference", &free_of_kl, 1, L * log(V), 0.03, 0.15);
}

/* The fixed point with the pre-training mix: per position max q / 3 - beta KL + gamma E[ln policy] over uniform text.  By position, since a
 * policy by prefix comes to some prefixes more often than the text does; lambda 1, since values by position do not know the prefix; no
 * whitening, since that scales the policy's part alone. */
static void test_ptx(void **state)
{
    (void)state;
    static const struct task k = {.beta = 0.2, .gamma_ptx = 0.2, .lambda = 1, .lr = 0.02, .batch = 256, .steps = 200, .epochs = 1, .flat = true};
    lands("ppo with the pre-training mix", &k, 0.4449, 0.2682, 0.01, 0.02);
    double ce = 0;
    for (int s = 0; s < 2; s++) {
        struct table w = learn(&k, (uint64_t)s + 3);
        for (int i = 0; i < ANSWERS; i++) {
            struct answer a = the_answer(&w, i);
            ce -= (a.old[0] + a.old[1] + a.old[2]) / (2 * L * ANSWERS);
        }
    }
    near_to("loss on the pre-training text", ce, 1.4679, 0.01);
}

static void test_rloo(void **state)
{
    (void)state;
    static const struct task k = {.beta = 0.2, .lr = 0.05, .batch = 128, .steps = 160, .epochs = 1, .group = 8, .how = DAN_GROUP_RLOO};
    lands("rloo", &k, best_reward, best_kl, 0.003, 0.015);
}

/* The group's mean with the answer itself in it scales the advantage by (G - 1) / G, and k3 in the loss pulls by KL(reference || policy):
 * q (1 - q) (G - 1) / G / 3 = beta (q - 1 / 4), q = .6000 for G = 8; with the mean of the others .6359. */
static void test_grpo(void **state)
{
    (void)state;
    struct task k = {.beta = 0.2, .lr = 0.02, .batch = 256, .steps = 260, .epochs = 1, .group = 8, .how = DAN_GROUP_DR_GRPO, .kl_in_loss = true};
    const double q = 0.6, kl = L * (q * log(q * V) + (1 - q) * log((1 - q) / (V - 1) * V));
    lands("grpo, k3 in the loss", &k, q, kl, 0.01, 0.05);
    k.how = DAN_GROUP_RLOO;
    const double others = 0.6359, kl_others = L * (others * log(others * V) + (1 - others) * log((1 - others) / (V - 1) * V));
    lands("k3 in the loss, mean of the others", &k, others, kl_others, 0.01, 0.05);
}

/* Every pair of answers, preferred with the probability that Bradley and Terry give their rewards: the minimum of DPO is the same policy. */
static void dpo_step(const struct dan_pref_loss *loss, const struct dan_pref_opts *o, struct table *w, struct adam *adam, double lr)
{
    struct answer a[ANSWERS];
    double logp[ANSWERS], seeds[ANSWERS] = {0};
    struct table g = {0};
    for (int i = 0; i < ANSWERS; i++) {
        a[i] = the_answer(w, i);
        logp[i] = a[i].old[0] + a[i].old[1] + a[i].old[2];
    }
    for (int i = 0; i < ANSWERS; i++) {
        for (int j = 0; j < ANSWERS; j++) {
            struct dan_pref_pair p = {.policy = {logp[i], logp[j]}, .ref = {-L * log(V), -L * log(V)}, .n = {L, L}};
            double seed[2], share = 1 / (1 + exp(reward(a[j].token) - reward(a[i].token))) / (ANSWERS * ANSWERS);
            loss->value(&p, o, seed);
            seeds[i] += share * seed[DAN_CHOSEN];
            seeds[j] += share * seed[DAN_REJECTED];
        }
    }
    for (int i = 0; i < ANSWERS; i++)
        for (int t = 0; t < L; t++) add_seed(&g, w, a[i].node[t], a[i].token[t], seeds[i]);
    adam_step(adam, w, &g, lr);
}

static void test_dpo(void **state)
{
    (void)state;
    const struct dan_pref_loss *loss = dan_pref_find("sigmoid");
    struct dan_pref_opts o = loss->usual;
    struct table w = {0};
    struct adam adam = {0};
    double mean, kl;
    o.beta = 0.2;
    for (int s = 0; s < 300; s++) dpo_step(loss, &o, &w, &adam, s < 200 ? 0.03 : 0.003);
    exact(&w, &mean, &kl);
    if (!(fabs(mean - best_reward) <= 1e-3 && fabs(kl - best_kl) <= 4e-3)) fail_msg("dpo: E[r] %.4f, KL %.4f", mean, kl);
    for (int i = 0; i < ANSWERS; i++) {        /* the implicit reward is the reward, but for a constant */
        struct answer a = the_answer(&w, i), none = the_answer(&w, ANSWERS - 1);
        double gap = o.beta * (a.old[0] + a.old[1] + a.old[2] - none.old[0] - none.old[1] - none.old[2]);
        if (!(fabs(gap - reward(a.token)) <= 0.01)) fail_msg("implicit reward of answer %d: %.4f, expected %.4f", i, gap, reward(a.token));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ppo), cmocka_unit_test(test_ptx), cmocka_unit_test(test_rloo), cmocka_unit_test(test_grpo), cmocka_unit_test(test_dpo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
