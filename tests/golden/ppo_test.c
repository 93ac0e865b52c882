/* ppo/: one update of PPO with the pre-training mix, as torch computes it: everything per token, the losses and gradients of every minibatch's
 * mean, the updated weights of policy and critic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "align/ppo.h"
#include "io/safetensors.h"
#include "model/score.h"

enum { ROWS = 40, MOST = 16, EVERY = 13 };     /* ROWS: several runs a minibatch */
static struct dan_store *values;
static struct dan_lm policy, ref, critic;

static const struct dan_tensor *value(const char *name)
{
    const struct dan_tensor *t = dan_store_find(values, name);
    if (!t) fail_msg("the golden file has no '%s'", name);
    return t;
}
static const float *floats(const char *name) { return value(name)->data; }
static const int32_t *ints(const char *name) { return value(name)->data; }

static void near_to(const char *what, int64_t i, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want)))) fail_msg("%s[%lld]: %.9g, expected %.9g", what, (long long)i, got, want);
}

static void load(struct dan_lm *lm)
{
    struct dan_err e = {0};
    if (dan_lm_load(lm, "tests/golden/llama", true, &e)) fail_msg("%s", e.msg);
}

static int setup(void **state)
{
    struct dan_err e = {0};
    (void)state;
    if (dan_safetensors_open("tests/golden/ppo/golden.safetensors", &values, &e)) fail_msg("%s", e.msg);
    load(&policy);
    load(&ref);
    load(&critic);
    for (size_t i = 0; i < dan_store_count(ref.store); i++) {
        struct dan_tensor *t = dan_store_at(ref.store, i);
        for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) ((float *)t->data)[k] *= 0.98f;
    }
    if (dan_lm_add_score(&critic, &(struct dan_score_opts){0}, &e)) fail_msg("%s", e.msg);
    struct dan_tensor *score = dan_store_find(critic.store, "score.weight");
    memcpy(score->data, floats("score"), (size_t)dan_shape_count(&score->shape) * sizeof(float));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dan_lm_release(&policy);
    dan_lm_release(&ref);
    dan_lm_release(&critic);
    dan_store_free(values);
    return 0;
}

static struct dan_tuner *tuner_of(struct dan_lm *lm, enum dan_head head)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-5, .weight_decay = 0.01, .clip = 1, .head = head};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static int64_t episodes(struct dan_episode *ep)
{
    const int32_t *ids = ints("ids"), *shape = ints("shape");
    int64_t n = value("scores")->shape.d[0];
    for (int64_t i = 0; i < n; ids += shape[3 * i], i++)
        ep[i] = (struct dan_episode){.ids = ids, .n = shape[3 * i], .prompt = shape[3 * i + 1], .ended = shape[3 * i + 2], .score = (double)floats("scores")[i]};
    return n;
}

static void windows(struct dan_sft_data *d, struct dan_sft_row *row, uint8_t *learn)
{
    int32_t *ids = value("windows")->data;
    memset(learn, 1, 64);
    *d = (struct dan_sft_data){.v = row, .n = (size_t)value("window_lengths")->shape.d[0]};
    for (size_t i = 0; i < d->n; ids += row[i].n, i++)
        row[i] = (struct dan_sft_row){.ids = ids, .learn = learn, .n = ints("window_lengths")[i], .learnt = ints("window_lengths")[i] - 1};
}

static void check_tokens(const struct dan_ppo *p)
{
    struct dan_ppo_trace t = dan_ppo_last(p);
    const struct { const char *name; const double *got; } what[] = {
        {"old", t.old}, {"ref", t.ref}, {"value", t.value}, {"reward", t.reward}, {"advantage", t.advantage}, {"returns", t.returns},
        {"policy_loss", t.policy_loss}, {"value_loss", t.value_loss},
    };
    for (size_t k = 0; k < sizeof what / sizeof *what; k++) {
        assert_int_equal(value(what[k].name)->shape.d[0], t.tokens);
        for (int64_t i = 0; i < t.tokens; i++) near_to(what[k].name, i, what[k].got[i], (double)floats(what[k].name)[i], 2e-5);
    }
}

/* Columns of "minibatches". */
enum { POLICY_LOSS, VALUE_LOSS, APPROXKL, CLIPFRAC, VALUE_CLIPFRAC, RATIO, PTX_LOSS, NORM, CRITIC_NORM, POLICY_NORM, PTX_NORM, COLUMNS };

static void check_stats(const struct dan_ppo_stats *s)
{
    const float *m = floats("minibatches"), *objective = floats("objective");
    int64_t n = value("minibatches")->shape.d[0];
    double mean[COLUMNS] = {0};
    assert_int_equal(value("minibatches")->shape.d[1], COLUMNS);
    assert_int_equal(s->minibatches, n);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < COLUMNS; k++) mean[k] += (double)m[i * COLUMNS + k] / (double)n;
    const double got[] = {s->policy_loss, s->value_loss, s->approxkl, s->clipfrac, s->value_clipfrac, s->ratio, s->ptx_loss};
    for (int k = 0; k <= PTX_LOSS; k++) near_to("mean over minibatches", k, got[k], mean[k], 2e-5);
    const float *last = m + (n - 1) * COLUMNS;
    near_to("gradient norm", n - 1, s->grad_norm, (double)last[NORM], 1e-4);
    near_to("critic's gradient norm", n - 1, s->critic_norm, (double)last[CRITIC_NORM], 1e-4);
    near_to("policy's part", 0, s->policy_norm, (double)m[POLICY_NORM], 1e-4);
    near_to("pre-training part", 0, s->ptx_norm, (double)m[PTX_NORM], 1e-4);
    near_to("objective/kl", 0, s->kl, (double)objective[0], 2e-5);
    near_to("objective/entropy", 0, s->entropy, (double)objective[1], 2e-5);
    near_to("objective/scores", 0, s->scores, (double)objective[2], 2e-5);
    assert_true(s->first_ratio == 1 && s->first_approxkl == 0);
}

static void check_weights(const struct dan_lm *lm, const char *who)
{
    int checked = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *name = dan_store_name(lm->store, i);
        if (strchr(name, '+')) continue;       /* joined: its parts are there, too */
        char hf[200] = "score.weight", key[240];
        bool turn = false;
        if (strcmp(name, "score.weight") && !dan_lm_hf_name(lm->model, name, hf, sizeof hf, &turn)) fail_msg("'%s' has no name in files", name);
        snprintf(key, sizeof key, "%s.%s", who, hf);
        const struct dan_tensor *want = dan_store_find(values, key), *got = dan_store_at(lm->store, i);
        if (!want) continue;                   /* the critic's unused language head */
        for (int64_t k = 0; k < dan_shape_count(&want->shape); k++)
            near_to(key, k, (double)((const float *)got->data)[k * EVERY], (double)((const float *)want->data)[k], 1e-4);
        checked++;
    }
    assert_int_equal(checked, 21);
}

static void test_update(void **state)
{
    (void)state;
    struct dan_tuner *t[3] = {tuner_of(&policy, DAN_HEAD_LM), tuner_of(&critic, DAN_HEAD_SCORE), tuner_of(&ref, DAN_HEAD_LM)};
    struct dan_ppo_opts o = {.gamma = 0.99, .lambda = 0.95, .clip = 0.03, .value_clip = 0.02, .vf_coef = 0.5, .missing_eos_penalty = 0.7, .ptx_coef = 0.4, .epochs = 2,
                             .minibatches = 2, .ptx_windows = 2, .whiten_rewards = true, .whiten_advantages = true, .seed = 5};
    struct dan_kl_control kl = {.beta = 0.05};
    struct dan_episode ep[MOST];
    struct dan_sft_row row[MOST];
    struct dan_sft_data text;
    struct dan_ppo_stats s;
    struct dan_ppo p;
    struct dan_err e = {0};
    uint8_t learn[64];
    int64_t n = episodes(ep);
    windows(&text, row, learn);
    if (dan_ppo_init(&p, t[0], t[1], t[2], &text, &o, &kl, ROWS, &e)) fail_msg("%s", e.msg);
    if (dan_ppo_update(&p, ep, n, 1e-3, 2e-3, &s, &e)) fail_msg("%s", e.msg);
    check_tokens(&p);
    check_stats(&s);
    check_weights(&policy, "policy");
    check_weights(&critic, "critic");
    dan_ppo_release(&p);
    for (int i = 0; i < 3; i++) dan_tuner_free(t[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_update)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
