/* Losses and advantages against values that were computed independently (pure Python in double: the formulas of the papers), their
 * seeds against central differences, and identities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "align/policy.h"
#include "align/pref.h"
#include "align/scalar.h"
#include "base/rng.h"

static void near_to(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.12f, expected %.12f", what, got, want);
}

static const struct dan_pref_pair pair = {.policy = {-12.5, -14}, .ref = {-13, -13.2}, .n = {10, 16}};

static void test_preference_values(void **state)
{
    (void)state;
    static const struct { const char *name; double value, chosen, rejected; } want[] = {
        {"sigmoid", 0.6302581947, -0.0467545694, 0.0467545694},
        {"cdpo", 0.6432581947, -0.0367545694, 0.0367545694},
        {"robust", 0.6140081947, -0.0592545694, 0.0592545694},
        {"hinge", 0.8700000000, -0.1, 0.1},
        {"ipo", 13.6900000000, -7.4, 7.4},
        {"ipo_mean", 24.0100000000, -0.98, 0.6125},
        {"sigmoid_norm", 0.4740769842, -0.1887703344, 0.1179814590},
        {"simpo", 2.4069128759, -0.2274767515, 0.1421729697},
        {"orpo", 1.3522539621, -0.1089744075, 0.0068628662},
        {"cpo", 1.8709570478, -0.1462570155, 0.0462570155},
    };
    int n = 0;
    for (; dan_pref_losses[n]; n++) {}
    assert_int_equal(n, sizeof want / sizeof *want);
    for (int i = 0; i < n; i++) {
        const struct dan_pref_loss *loss = dan_pref_find(want[i].name);
        double seed[2], value = loss->value(&pair, &loss->usual, seed);
        near_to(want[i].name, value, want[i].value, 1e-9);
        near_to(want[i].name, seed[0], want[i].chosen, 1e-9);
        near_to(want[i].name, seed[1], want[i].rejected, 1e-9);
    }
    double seed;
    near_to("kto, desirable", dan_kto(-12.5, -13, true, 0.3, 0.1, 1, &seed), 0.4950001667, 1e-9);
    near_to("its seed", seed, -0.0249975002, 1e-9);
    near_to("kto, undesirable", dan_kto(-14, -13.2, false, 0.3, 0.1, 1, &seed), 0.4725276957, 1e-9);
    near_to("its seed", seed, 0.0249245272, 1e-9);
}

static struct dan_pref_pair random_pair(struct dan_rng *rng)
{
    struct dan_pref_pair p;
    for (int k = 0; k < 2; k++) {
        p.n[k] = 1 + floor(30 * dan_rng_uniform(rng));
        p.policy[k] = -p.n[k] * (0.05 + 4 * dan_rng_uniform(rng));
        p.ref[k] = p.policy[k] + 3 * dan_rng_normal(rng);
    }
    return p;
}

static void test_preference_seeds(void **state)
{
    (void)state;
    struct dan_rng rng = {.seed = 1};
    const double h = 1e-5;
    for (int i = 0; dan_pref_losses[i]; i++) {
        const struct dan_pref_loss *loss = dan_pref_losses[i];
        for (int k = 0; k < 2000; k++) {
            struct dan_pref_pair p = random_pair(&rng), up = p, down = p;
            double seed[2], ignored[2];
            up.policy[k % 2] += h;
            down.policy[k % 2] -= h;
            loss->value(&p, &loss->usual, seed);
            double slope = (loss->value(&up, &loss->usual, ignored) - loss->value(&down, &loss->usual, ignored)) / (2 * h);
            if (!strcmp(loss->name, "hinge") && fabs(1 - loss->usual.beta * dan_pref_delta(&p)) < 1e-4) continue;
            near_to(loss->name, seed[k % 2], slope, 1e-6 * fmax(1, fabs(slope)));
        }
    }
}

static void test_preference_identities(void **state)
{
    (void)state;
    struct dan_pref_pair same = {.policy = {-5, -7}, .ref = {-5, -7}, .n = {3, 4}}, far = {.policy = {-600, -1}, .ref = {0, 0}, .n = {1, 1}};
    struct dan_pref_opts o = {.beta = 0.3};
    double seed[2], other[2];
    near_to("dpo where the policy is the reference", dan_pref_find("sigmoid")->value(&same, &o, seed), M_LN2, 1e-15);
    near_to("its seed", seed[0], -0.15, 1e-15);
    near_to("cdpo(0) = dpo", dan_pref_find("cdpo")->value(&pair, &o, seed), dan_pref_find("sigmoid")->value(&pair, &o, other), 0);
    near_to("robust(0) = dpo", dan_pref_find("robust")->value(&pair, &o, seed), dan_pref_find("sigmoid")->value(&pair, &o, other), 0);
    near_to("a margin of -180", dan_pref_find("sigmoid")->value(&far, &o, seed), 0.3 * 599, 1e-9);
    far = (struct dan_pref_pair){.policy = {-1, -600}, .n = {1, 1}};
    near_to("a margin of 180", dan_pref_find("sigmoid")->value(&far, &o, seed), exp(-0.3 * 599), 1e-90);
    struct dan_pref_pair no_ref = pair;
    no_ref.ref[0] = no_ref.ref[1] = 0;
    near_to("simpo without margin", dan_pref_find("simpo")->value(&pair, &o, seed), dan_pref_find("sigmoid_norm")->value(&no_ref, &o, other), 0);
}

static void test_rewards(void **state)
{
    (void)state;
    double seed[4], shifted[4], h = 1e-6, two[2];
    near_to("bradley-terry", dan_bradley_terry(1.2, 0.4, 0, two), 0.3711006659, 1e-9);
    near_to("its seed", two[0], -0.3100255189, 1e-9);
    near_to("margin 1/3", dan_bradley_terry(1.2, 0.4, 1.0 / 3, two), 0.4867925811, 1e-9);
    near_to("its seed", two[0], -0.3854055017, 1e-9);
    near_to("margin 1", dan_bradley_terry(1.2, 0.4, 1, two), 0.7981388694, 1e-9);
    near_to("its seed", two[0], -0.5498339973, 1e-9);
    near_to("centring", dan_pair_loss(1.2, 0.4, 0, 0.01, two) - dan_bradley_terry(1.2, 0.4, 0, seed), 0.0256, 1e-12);
    const double r[4] = {1, 0.2, -0.5, 0.7}, plus[4] = {4, 3.2, 2.5, 3.7};
    const int rank[4] = {1, 3, 4, 2}, tied[4] = {1, 1, 1, 1};
    int pairs, right;
    near_to("four ranked answers", dan_ranked_loss(r, rank, 4, 0, seed, &pairs, &right), 0.3779024481, 1e-9);
    assert_int_equal(pairs, 6);
    assert_int_equal(right, 6);
    near_to("a constant changes nothing", dan_ranked_loss(plus, rank, 4, 0, shifted, NULL, NULL), 0.3779024481, 1e-9);
    near_to("seeds add up to 0", seed[0] + seed[1] + seed[2] + seed[3], 0, 1e-15);
    near_to("all ranked alike", dan_ranked_loss(r, tied, 4, 0, shifted, &pairs, NULL), 0, 0);
    assert_int_equal(pairs, 0);
    dan_ranked_loss(r, rank, 4, 0.05, seed, NULL, NULL);
    for (int k = 0; k < 4; k++) {
        double up[4], down[4];
        memcpy(up, r, sizeof up);
        memcpy(down, r, sizeof down);
        up[k] += h;
        down[k] -= h;
        double slope = (dan_ranked_loss(up, rank, 4, 0.05, shifted, NULL, NULL) - dan_ranked_loss(down, rank, 4, 0.05, shifted, NULL, NULL)) / (2 * h);
        near_to("seed of a ranked answer", seed[k], slope, 1e-8);
    }
}

static const double old[4] = {-1, -2, -0.5, -1.5}, ref[4] = {-1.1, -1.8, -0.7, -1.4}, values[4] = {0.1, 0.2, 0, 0.3};

static void all_near(const char *what, const double *got, const double *want, int n)
{
    for (int i = 0; i < n; i++) near_to(what, got[i], want[i], 1e-9);
}

static void test_advantages(void **state)
{
    (void)state;
    double reward[4], advantage[4], returns[4], x[4], kl[3] = {0};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 3; k++) kl[k] += dan_kl_estimate((enum dan_kl)k, old[i], ref[i]);
    all_near("k1, k2, k3", kl, (const double[]){0, 0.05, 0.0501418473}, 3);
    dan_kl_rewards(old, ref, 4, 0.05, 1, reward);
    all_near("rewards", reward, (const double[]){-0.005, 0.01, -0.01, 1.005}, 4);
    dan_gae(reward, values, 4, 1, 0.95, advantage, returns);
    all_near("advantages", advantage, (const double[]){0.7806743750, 0.7217625, 0.95975, 0.705}, 4);
    all_near("returns", returns, (const double[]){0.8806743750, 0.9217625, 0.95975, 1.005}, 4);
    memcpy(x, advantage, sizeof x);
    dan_whiten(x, 4, true, false);
    all_near("whitened", x, (const double[]){-0.1101674302, -0.6936928112, 1.6635865424, -0.8597263010}, 4);
    memcpy(x, reward, sizeof x);
    dan_whiten(x, 4, false, false);
    all_near("rewards whitened in place", x, (const double[]){-0.3349139109, -0.3005072103, -0.3463828112, 1.9818039324}, 4);
    dan_gae(reward, values, 4, 1, 1, advantage, returns);
    for (int t = 0; t < 4; t++) {
        double sum = 0;
        for (int i = t; i < 4; i++) sum += reward[i];
        near_to("lambda 1: returns", returns[t], sum, 1e-12);
    }
    dan_gae(reward, values, 4, 0.9, 0, advantage, returns);
    near_to("lambda 0: one step", advantage[1], reward[1] + 0.9 * values[2] - values[1], 1e-15);
}

static void test_ppo(void **state)
{
    (void)state;
    static const double policy[4] = {-0.8, -2.3, -0.5, -1.1}, value[4] = {0.5, 0.1, -0.3, 0.9};
    double advantage[4] = {0.7806743750, 0.7217625, 0.95975, 0.705}, seed, loss = 0, v = 0, clips = 0;
    const double returns[4] = {0.8806743750, 0.9217625, 0.95975, 1.005};
    bool clipped;
    dan_whiten(advantage, 4, true, true);
    all_near("whitened, unbiased", advantage, (const double[]){-0.0954078049, -0.6007556706, 1.4407083838, -0.7445449083}, 4);
    for (int i = 0; i < 4; i++) {
        loss += dan_ppo_loss(policy[i], old[i], advantage[i], 0.2, 0.2, &seed, &clipped) / 4;
        clips += clipped;
        v += dan_value_loss(value[i], values[i], returns[i], 0.2, &seed, &clipped) / 4;
    }
    near_to("policy loss", loss, 0.0667894979, 1e-9);
    near_to("share clipped", clips / 4, 0.25, 0);
    near_to("value loss", v, 0.3568089248, 1e-9);
    static const struct { double a, policy, seed; } want[] = {{1.7, -1.35, -1.6170900217}, {1.7, -1.0, 0}, {1.7, -1.7, -1.1395440783},
                                                              {-1.7, -1.35, 1.6170900217}, {-1.7, -1.0, 2.2947599729}, {-1.7, -1.7, 0}};
    for (int i = 0; i < 6; i++) {
        dan_ppo_loss(want[i].policy, -1.3, want[i].a, 0.2, 0.2, &seed, &clipped);
        near_to("seed of the clipped objective", seed, want[i].seed, 1e-9);
    }
    static const double at[3] = {0.15, 0.6, -0.4}, slope[3] = {-0.35, 0, -0.9};
    for (int i = 0; i < 3; i++) {
        dan_value_loss(at[i], 0.1, 0.5, 0.2, &seed, &clipped);
        near_to("seed of the value", seed, slope[i], 1e-12);
    }
    dan_kl_loss(DAN_K3, -1.4, -1.1, &seed);
    near_to("k3 in the loss", seed, -0.3498588076, 1e-9);
    dan_kl_loss(DAN_K2, -1.4, -1.1, &seed);
    near_to("k2 in the loss", seed, -0.3, 1e-12);
}

static void test_groups(void **state)
{
    (void)state;
    const double r[4] = {1, 0, 0, 1}, same[3] = {0.1, 0.1, 0.1};
    double a[4];
    dan_group_advantages(DAN_GROUP_GRPO, r, 4, a);
    all_near("grpo", a, (const double[]){0.8658754298, -0.8658754298, -0.8658754298, 0.8658754298}, 4);
    dan_group_advantages(DAN_GROUP_DR_GRPO, r, 4, a);
    all_near("dr. grpo", a, (const double[]){0.5, -0.5, -0.5, 0.5}, 4);
    dan_group_advantages(DAN_GROUP_RLOO, r, 4, a);
    all_near("rloo", a, (const double[]){2.0 / 3, -2.0 / 3, -2.0 / 3, 2.0 / 3}, 4);
    for (int how = 0; how < 3; how++) {
        dan_group_advantages((enum dan_group_advantage)how, same, 3, a);
        for (int i = 0; i < 3; i++) near_to("equal rewards", a[i], 0, 0);
    }
    struct dan_kl_control c = {0.15, 6, 10000};
    static const double kl[3] = {9, 3, 6}, beta[3] = {0.1515360000, 0.1499842714, 0.1499842714};
    for (int i = 0; i < 3; i++) {
        dan_kl_control_update(&c, kl[i], 512);
        near_to("adaptive coefficient", c.beta, beta[i], 1e-9);
    }
    near_to("weight by answer", dan_token_weight(DAN_WEIGHT_ANSWER, 4, 10, 70, 100), 1.0 / 40, 0);
    near_to("weight by step", dan_token_weight(DAN_WEIGHT_STEP, 4, 10, 70, 100), 1.0 / 70, 0);
    near_to("constant weight", dan_token_weight(DAN_WEIGHT_CONSTANT, 4, 10, 70, 100), 1.0 / 400, 0);
}

/* Every subset of n of m counts once. */
static double by_enumeration(const double *x, int m, int n)
{
    double sum = 0;
    int count = 0;
    for (unsigned set = 0; set < 1u << m; set++) {
        double most = -INFINITY;
        if (__builtin_popcount(set) != n) continue;
        for (int i = 0; i < m; i++)
            if (set >> i & 1 && x[i] > most) most = x[i];
        sum += most;
        count++;
    }
    return sum / count;
}

static void test_best_of(void **state)
{
    (void)state;
    const double x[7] = {0.3, -1, 2, 0.3, 1.5, -0.2, 0.9};
    for (int n = 1; n <= 7; n++) near_to("best of n", dan_best_of(x, 7, n), by_enumeration(x, 7, n), 1e-12);
    near_to("kl of best of 4", dan_best_of_kl(4), 0.6362943611, 1e-9);
    near_to("kl of best of 64", dan_best_of_kl(64), 3.1745080834, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preference_values), cmocka_unit_test(test_preference_seeds), cmocka_unit_test(test_preference_identities),
        cmocka_unit_test(test_rewards), cmocka_unit_test(test_advantages), cmocka_unit_test(test_ppo), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_best_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
