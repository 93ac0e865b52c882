/* PPO on a tiny model: the first minibatch's ratio is exactly 1 however it is packed; policy, reference and critic over one base; what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "align/ppo.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/lora.h"
#include "model/score.h"

enum { VOCAB = 37, ROWS = 48, N = 9, LONGEST = 20 };
static int32_t ids[N][LONGEST];

static void make_episodes(struct dan_episode *ep)
{
    struct dan_rng r = {.seed = 4};
    for (int i = 0; i < N; i++) {
        int64_t n = 5 + (int64_t)dan_rng_below(&r, LONGEST - 5);
        for (int64_t k = 0; k < n; k++) ids[i][k] = (int32_t)dan_rng_below(&r, VOCAB);
        ep[i] = (struct dan_episode){.ids = ids[i], .n = n, .prompt = 1 + (int64_t)dan_rng_below(&r, 4), .ended = i % 3 > 0, .score = dan_rng_normal(&r)};
    }
}

static struct dan_lm new_lm(const char *family, bool score)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = 32, .layers = 2, .heads = 2, .tied = true, .bias = !strcmp(family, "gpt"), .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 3, &e)) fail_msg("%s", e.msg);
    if (score && dan_lm_add_score(&lm, &(struct dan_score_opts){0}, &e)) fail_msg("%s", e.msg);
    return lm;
}

static void add_adapter(struct dan_lm *lm, const char *name)
{
    struct dan_lora_opts o = {.name = name, .rank = 4, .alpha = 8, .targets = "all-linear", .last_layer = -1, .seed = 5};
    struct dan_err e = {0};
    if (dan_lora_add(lm, &o, &e)) fail_msg("%s", e.msg);
}

/* Of all adapters that one is on, and learns. */
static void turn_to(struct dan_lm *lm, const char *name)
{
    for (int i = 0; i < lm->n_adapters; i++) lm->adapter[i].on = lm->adapter[i].trained = name && !strcmp(lm->adapter[i].name, name);
}

static struct dan_tuner *new_tuner(struct dan_lm *lm, enum dan_head head, bool scores, enum dan_prec prec, double ema)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1, .head = head, .prec = prec,
                               .ema = ema, .frozen = scores};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static const struct dan_ppo_opts usual = {.gamma = 1, .lambda = 0.95, .clip = 0.2, .value_clip = 0.2, .vf_coef = 0.1, .epochs = 2, .minibatches = 3,
                                          .whiten_advantages = true, .seed = 1};
static const struct dan_kl_control fixed = {.beta = 0.05};

struct set { struct dan_lm policy, ref, critic; struct dan_tuner *t[3]; struct dan_ppo p; };

static void open_set(struct set *s, const char *family, enum dan_prec prec, const struct dan_ppo_opts *o, const struct dan_kl_control *kl)
{
    struct dan_err e = {0};
    s->policy = new_lm(family, false);
    s->ref = new_lm(family, false);
    s->critic = new_lm(family, true);
    s->t[0] = new_tuner(&s->policy, DAN_HEAD_LM, false, prec, 0);
    s->t[1] = new_tuner(&s->critic, DAN_HEAD_SCORE, false, prec, 0);
    s->t[2] = new_tuner(&s->ref, DAN_HEAD_LM, true, prec, 0);
    if (dan_ppo_init(&s->p, s->t[0], s->t[1], s->t[2], NULL, o, kl, ROWS, &e)) fail_msg("%s", e.msg);
}

static void close_set(struct set *s)
{
    dan_ppo_release(&s->p);
    for (int i = 0; i < 3; i++) dan_tuner_free(s->t[i]);
    dan_lm_release(&s->policy);
    dan_lm_release(&s->ref);
    dan_lm_release(&s->critic);
}

static struct dan_ppo_stats update(struct dan_ppo *p, const struct dan_episode *ep)
{
    struct dan_ppo_stats s;
    struct dan_err e = {0};
    if (dan_ppo_update(p, ep, N, 1e-3, 1e-3, &s, &e)) fail_msg("%s", e.msg);
    return s;
}

static void test_first_ratio(void **state)
{
    (void)state;
    static const struct { const char *family; enum dan_prec prec; } kinds[] = {{"llama", DAN_PREC_F32}, {"gpt", DAN_PREC_F32}, {"llama", DAN_PREC_BF16}};
    struct dan_episode ep[N];
    make_episodes(ep);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct set s;
        open_set(&s, kinds[k].family, kinds[k].prec, &usual, &fixed);
        for (int u = 0; u < 3; u++) {          /* after steps, too */
            struct dan_ppo_stats a = update(&s.p, ep);
            if (!(a.first_ratio == 1 && a.first_approxkl == 0)) fail_msg("%s, update %d: ratio %.17g, approxkl %g", kinds[k].family, u, a.first_ratio, a.first_approxkl);
            assert_true(a.approxkl > 0 && a.minibatches == 6);
            if (u == 0) assert_true(fabs(a.kl) < (kinds[k].prec == DAN_PREC_F32 ? 1e-4 : 1));
        }
        close_set(&s);
    }
}

/* Adapters: the base keeps every bit, the reference is the base, policy and critic learn their own. */
static void test_shared(void **state)
{
    (void)state;
    struct dan_episode ep[N];
    struct dan_lm lm = new_lm("llama", false), before = new_lm("llama", false);
    struct dan_ppo p;
    struct dan_err e = {0};
    make_episodes(ep);
    add_adapter(&lm, "policy");
    add_adapter(&lm, "critic");
    if (dan_lm_add_score(&lm, &(struct dan_score_opts){.adapter = "critic"}, &e)) fail_msg("%s", e.msg);
    turn_to(&lm, "policy");
    struct dan_tuner *policy = new_tuner(&lm, DAN_HEAD_LM, false, DAN_PREC_F32, 0.9);
    turn_to(&lm, "critic");
    struct dan_tuner *critic = new_tuner(&lm, DAN_HEAD_SCORE, false, DAN_PREC_F32, 0);
    turn_to(&lm, NULL);
    struct dan_tuner *ref = new_tuner(&lm, DAN_HEAD_LM, true, DAN_PREC_F32, 0);
    assert_int_equal(dan_tuner_params(policy), dan_lora_params(&lm, "policy"));      /* of the critic: with its head */
    assert_int_equal(dan_tuner_params(critic), dan_lora_params(&lm, "critic"));
    if (dan_ppo_init(&p, policy, critic, ref, NULL, &usual, &fixed, ROWS, &e)) fail_msg("%s", e.msg);
    struct dan_ppo_stats a = update(&p, ep), b = update(&p, ep);
    assert_true(fabs(a.kl) < 1e-4 && fabs(b.kl) > 1e-3);
    assert_true(b.first_ratio == 1 && b.first_approxkl == 0);
    for (size_t i = 0; i < dan_store_count(before.store); i++) {
        const char *name = dan_store_name(before.store, i);
        const struct dan_tensor *x = dan_store_at(before.store, i), *y = dan_store_find(lm.store, name);
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
    dan_ppo_release(&p);
    dan_tuner_free(policy);
    dan_tuner_free(critic);
    dan_tuner_free(ref);
    dan_lm_release(&lm);
    dan_lm_release(&before);
}

static void test_scores(void **state)
{
    (void)state;
    struct dan_episode ep[N];
    struct dan_ppo_opts o = usual;
    struct dan_kl_control adaptive = {.beta = 0.1, .target = 6, .horizon = 100};
    struct set s;
    double mean = 0;
    make_episodes(ep);
    for (int i = 0; i < N; i++) mean += fmax(-1, fmin(1, ep[i].score - (ep[i].ended ? 0 : 2))) / N;
    o.missing_eos_penalty = 2;
    o.score_clip = 1;
    o.max_approxkl = 1e-12;
    open_set(&s, "llama", DAN_PREC_F32, &o, &adaptive);
    struct dan_ppo_stats a = update(&s.p, ep);
    assert_true(fabs(a.scores - mean) < 1e-12 && a.eos == 6);
    assert_int_equal(a.minibatches, 2);        /* the second moved too far */
    assert_true(fabs(s.p.kl.beta - 0.1 * (1 - 0.2 * N / 100)) < 1e-12);
    close_set(&s);
}

static void test_ptx(void **state)
{
    (void)state;
    static int32_t text[2][LONGEST];
    static uint8_t learn[LONGEST];
    struct dan_sft_row row[2];
    struct dan_episode ep[N];
    struct dan_ppo_opts o = usual;
    struct dan_ppo_stats a[12];
    struct dan_err e = {0};
    struct set s;
    make_episodes(ep);
    memset(learn, 1, sizeof learn);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < LONGEST; k++) text[i][k] = (i * 7 + k * 3) % VOCAB;
        row[i] = (struct dan_sft_row){.ids = text[i], .learn = learn, .n = LONGEST - i, .learnt = LONGEST - i - 1};
    }
    struct dan_sft_data d = {.v = row, .n = 2};
    o.ptx_coef = 1;
    o.ptx_windows = 3;
    open_set(&s, "llama", DAN_PREC_F32, &o, &fixed);
    dan_ppo_release(&s.p);
    if (dan_ppo_init(&s.p, s.t[0], s.t[1], s.t[2], &d, &o, &fixed, ROWS, &e)) fail_msg("%s", e.msg);
    for (int u = 0; u < 12; u++) a[u] = update(&s.p, ep);
    assert_true(fabs(a[0].ptx_loss - log(VOCAB)) < 0.5 && a[11].ptx_loss < a[0].ptx_loss - 0.5);
    assert_true(a[0].policy_norm > 0 && a[0].ptx_norm > 0);
    assert_int_equal(s.p.ptx_at, 12 * 6 * 3);
    close_set(&s);
}

static void test_refused(void **state)
{
    (void)state;
    struct dan_episode ep[N];
    struct dan_ppo_stats a;
    struct dan_err e = {0};
    struct set s;
    make_episodes(ep);
    open_set(&s, "llama", DAN_PREC_F32, &usual, &fixed);
    ep[3].score = NAN;
    assert_int_equal(dan_ppo_update(&s.p, ep, N, 1e-3, 1e-3, &a, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "the score of answer 4 in update 1 is"));
    memset(&e, 0, sizeof e);
    assert_int_equal(dan_ppo_update(&s.p, ep, 0, 1e-3, 1e-3, &a, &e), DAN_EINVAL);
    memset(&e, 0, sizeof e);
    ep[3].score = 1;
    struct dan_tensor *w = dan_store_find(s.critic.store, "score.weight");
    ((float *)w->data)[0] = NAN;
    assert_int_equal(dan_ppo_update(&s.p, ep, N, 1e-3, 1e-3, &a, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "the critic's values are not finite in update 1"));
    assert_int_equal(dan_tuner_steps(s.t[0]), 0);
    close_set(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_ratio), cmocka_unit_test(test_shared), cmocka_unit_test(test_scores), cmocka_unit_test(test_ptx), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
