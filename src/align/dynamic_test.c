/* Dynamic sampling on answers made up: how many prompts each round asks, what is learnt from, when it ends; and the punishment of answers that are nearly too long. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "align/dynamic.h"
#include "align/policy.h"
#include "base/mem.h"

enum { SAMPLES = 3, REWARDS = 2, MOST = 16 };

/* Group k of the list is flat where differs[k] is '.'; behind its end all are. */
struct list { const char *differs; int64_t at, asked[MOST], fails; };

static int ask(void *ctx, int64_t round, int64_t n, struct dan_rollouts *said, double **total, double **each, struct dan_err *e)
{
    struct list *l = ctx;
    size_t count = (size_t)n * SAMPLES;
    assert_true(round < MOST);
    l->asked[round] = n;
    *total = dan_malloc(count * sizeof **total);
    *each = dan_malloc(count * REWARDS * sizeof **each);
    if (l->fails == round) return dan_fail(e, DAN_EINVAL, "no answer");
    *said = (struct dan_rollouts){.v = dan_calloc(count, sizeof *said->v), .n = count, .samples = SAMPLES, .seconds = 1, .prompt_tokens = n};
    assert_true(*total && *each && said->v);
    for (size_t i = 0; i < count; i++) {
        int64_t group = l->at + (int64_t)i / SAMPLES, sample = (int64_t)i % SAMPLES;
        bool end = (size_t)group >= strlen(l->differs), flat = end || l->differs[group] == '.';
        said->v[i] = (struct dan_said){.sample = sample, .n_prompt = 2, .n = 3 + group, .ids = dan_malloc(8)};
        said->tokens += dan_said_tokens(&said->v[i]);
        (*total)[i] = flat ? 0.1 : sample == 1 ? NAN : (double)sample;
        (*each)[i] = (double)group;
        (*each)[count + i] = (double)(100 + group);
    }
    l->at += n;
    return DAN_OK;
}

static struct dan_groups sample(struct list *l, const char *differs, int64_t want, int64_t rounds)
{
    struct dan_groups g;
    struct dan_err e = {0};
    *l = (struct list){.differs = differs, .fails = -1};
    if (dan_groups_sample(want, rounds, REWARDS, ask, l, &g, &e)) fail_msg("%s", e.msg);
    assert_int_equal(g.prompts, l->at);
    assert_int_equal(g.said.n, l->at * SAMPLES);
    for (size_t i = 0; i < g.said.n; i++) {    /* rewards stay with their answers */
        assert_true(g.each[i] == (double)(i / SAMPLES) && g.each[g.said.n + i] == 100 + g.each[i]);
        assert_int_equal(g.said.v[i].n, 3 + (int64_t)i / SAMPLES);
    }
    return g;
}

/* Learnt are groups first[0 ..] of the list. */
static void learns(struct dan_groups *g, const char *groups)
{
    int64_t tokens = 0;
    assert_int_equal(g->learnt.n, strlen(groups) * SAMPLES);
    for (size_t i = 0; i < g->learnt.n; i++) {
        int64_t group = groups[i / SAMPLES] - 'a';
        assert_ptr_equal(g->learnt.v[i].ids, g->said.v[group * SAMPLES + (int64_t)i % SAMPLES].ids);
        double a = g->reward[i], b = g->total[group * SAMPLES + (int64_t)i % SAMPLES];
        assert_true(a == b || (isnan(a) && isnan(b)));
        tokens += dan_said_tokens(&g->learnt.v[i]);
    }
    assert_int_equal(g->learnt.tokens, tokens);
    assert_int_equal(g->learnt.samples, SAMPLES);
    dan_groups_release(g);
}

static void test_rounds(void **state)
{
    (void)state;
    struct list l;
    struct dan_groups g = sample(&l, "x..x", 4, 0);                    /* off: everything, as it comes */
    assert_true(g.rounds == 1 && g.flat == 2);
    learns(&g, "abcd");
    g = sample(&l, "xxxx", 4, 5);
    assert_true(g.rounds == 1 && g.flat == 0);
    learns(&g, "abcd");
    g = sample(&l, "x..xxxxx", 4, 5);          /* half were of use: 2 more take 4 prompts, and 2 groups come over */
    assert_true(g.rounds == 2 && l.asked[1] == 4 && g.prompts == 8 && g.flat == 2 && g.said.seconds == 2);
    learns(&g, "adef");
    g = sample(&l, "xxx...xx", 4, 5);          /* 3 of 4: the one that lacks takes 2; 3 of 6: again 2 */
    assert_true(g.rounds == 3 && l.asked[1] == 2 && l.asked[2] == 2 && g.prompts == 8);
    learns(&g, "abcg");
    g = sample(&l, "....xx..xx", 4, 5);        /* none were: as many again */
    assert_true(g.rounds == 3 && l.asked[1] == 4 && l.asked[2] == 4);
    learns(&g, "efij");
}

static void test_ends(void **state)
{
    (void)state;
    struct list l;
    struct dan_groups g = sample(&l, ".x", 2, 4);                      /* too few: what there is */
    assert_true(g.rounds == 4 && g.prompts == 8 && g.flat == 7);
    learns(&g, "b");
    g = sample(&l, "", 3, 4);                  /* none at all: the first, as without it */
    assert_true(g.rounds == 4 && g.prompts == 12 && g.flat == 12);
    learns(&g, "abc");
    g = sample(&l, "", 3, 1);
    assert_true(g.rounds == 1 && g.prompts == 3);
    learns(&g, "abc");
}

static void test_fails(void **state)
{
    (void)state;
    for (int64_t round = 0; round < 2; round++) {
        struct list l = {.differs = "x", .fails = round};
        struct dan_groups g;
        struct dan_err e = {0};
        assert_int_equal(dan_groups_sample(2, 4, REWARDS, ask, &l, &g, &e), DAN_EINVAL);
        assert_string_equal(e.msg, "no answer");
        assert_true(!g.said.v && !g.learnt.v && !g.total);
    }
}

static void test_flat(void **state)
{
    (void)state;
    const double same[] = {NAN, 0.1, NAN, 0.1}, differ[] = {0.1, NAN, 0.1, 0.2}, none[] = {NAN, NAN};
    assert_true(dan_group_flat(same, 4) && dan_group_flat(none, 2) && dan_group_flat(differ, 3) && dan_group_flat(NULL, 0));
    assert_false(dan_group_flat(differ, 4));
}

/* The paper's numbers: 16384 tokens and a buffer of 4096. */
static void test_overlong(void **state)
{
    (void)state;
    assert_true(dan_overlong(1, 20480, 4096) == 0 && dan_overlong(16384, 20480, 4096) == 0);
    assert_true(fabs(dan_overlong(16385, 20480, 4096) + 1.0 / 4096) < 1e-15 && dan_overlong(18432, 20480, 4096) == -0.5);
    assert_true(dan_overlong(20480, 20480, 4096) == -1 && dan_overlong(30000, 20480, 4096) == -1);
    assert_true(dan_overlong(4, 8, 8) == -0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds), cmocka_unit_test(test_ends), cmocka_unit_test(test_fails), cmocka_unit_test(test_flat),
                                       cmocka_unit_test(test_overlong)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
