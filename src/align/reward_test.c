#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "align/reward.h"
#include "base/err.h"

static const struct { const char *spec, *answer, *row; double want; } cases[] = {
    {"number", "so it is 72.", "{\"answer\":\"48+24 = <<48+24=72>>72\\n#### 72\"}", 1},
    {"number", "about 1,234.50 dollars", "{\"solution\":\"1234.5\"}", 1},
    {"number", "3-5 is -2", "{\"answer\":\"-2\"}", 1},
    {"number", "12-5", "{\"answer\":\"5\"}", 1},
    {"number", "71", "{\"answer\":\"72\"}", 0},
    {"number", "none", "{\"answer\":\"72\"}", 0},
    {"number", "1", "{\"prompt\":\"72\"}", NAN},
    {"exact", " yes\n", "{\"answer\":\"yes\"}", 1},
    {"exact", "yes!", "{\"answer\":\"yes\"}", 0},
    {"exact", "yes", "{}", NAN},
    {"regex:^[0-9]+$", "123", "{}", 1},
    {"regex:^[0-9]+$", "12a", "{}", 0},
    {"regex:b+", "abba", "{}", 1},
    {"think", "<think>a</think>\n<answer>b</answer>\n", "{}", 1},
    {"think", "<think>a</think> c <answer>b</answer>", "{}", 0},
    {"think", "<think>a</think><answer>b</answer>x", "{}", 0},
    {"think", "<think><think>a</think><answer>b</answer>", "{}", 0},
    {"length:2-4", "a b c", "{}", 1},              /* tokens: 3, see below */
    {"length:6-9", "a b c", "{}", 0},
    {"length:4-9", "a b c", "{}", 0.5},
    {"length:1-2", "a b c", "{}", 0.5},
    {"repetition:2", "a b a b a b", "{}", -0.6},
    {"repetition:2", "a b c d", "{}", 0},
    {"repetition:3", "a b", "{}", 0},
    {"command:while read x; do echo 0.25; done", "a", "{}", 0.25},
    {"command:while read x; do echo null; done", "a", "{}", NAN},
    {"command:while read x; do echo '{\"reward\": 2}'; done", "a", "{\"answer\":\"b\"}", 2},
    {"command:sed -u 's/.*\"completion\":\"\\([0-9]*\\)\".*/\\1/'", "17", "{}", 17},
};

static void test_scores(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dan_err e = {0};
        struct dan_reward *r = NULL;
        json_t *row = json_loads(cases[i].row, 0, NULL);
        struct dan_answer a = {.text = cases[i].answer, .n = strlen(cases[i].answer), .tokens = 3, .ended = true, .row = row};
        double got = -9;
        if (dan_reward_open(cases[i].spec, &r, &e) || dan_reward_score(r, &a, 1, &got, &e)) fail_msg("%s: %s", cases[i].spec, e.msg);
        if (!(fabs(got - cases[i].want) < 1e-12 || (isnan(got) && isnan(cases[i].want))))
            fail_msg("%s of '%s': %g, expected %g", cases[i].spec, cases[i].answer, got, cases[i].want);
        dan_reward_close(r);
        json_decref(row);
    }
}

static void test_lexicon(void **state)
{
    (void)state;
    char path[] = "/tmp/danlu-lexicon-XXXXXX", spec[64];
    FILE *f = fdopen(mkstemp(path), "w");
    assert_non_null(f);
    fputs("# words\ngood 1\nbad\t-2\nFine\n", f);
    fclose(f);
    snprintf(spec, sizeof spec, "lexicon:%s", path);
    struct dan_reward *r = NULL;
    struct dan_err e = {0};
    const char *text = "Good, fine; bad... unknown";
    struct dan_answer a = {.text = text, .n = strlen(text)};
    double got;
    assert_int_equal(dan_reward_open(spec, &r, &e), DAN_OK);
    assert_int_equal(dan_reward_score(r, &a, 1, &got, &e), DAN_OK);
    assert_true(fabs(got) < 1e-12);
    dan_reward_close(r);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("good one\n", f);
    fclose(f);
    assert_int_not_equal(dan_reward_open(spec, &r, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "line 1 of"));
    remove(path);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct { const char *spec, *error; } bad[] = {
        {"nothing", "unknown reward 'nothing'; use one of: "}, {"length", "reward 'length' lacks its argument"}, {"number:1", "takes no argument"},
        {"length:9-4", "is no range of tokens"}, {"repetition:0", "is no number of words"}, {"lexicon:/no/such/file", "/no/such/file"}, {"regex:(", "reward regex"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_err e = {0};
        struct dan_reward *r = NULL;
        assert_int_not_equal(dan_reward_open(bad[i].spec, &r, &e), DAN_OK);
        if (!strstr(e.msg, bad[i].error)) fail_msg("%s: '%s'", bad[i].spec, e.msg);
    }
}

static void test_garbage(void **state)
{
    (void)state;
    static const struct { const char *spec, *error; } bad[] = {
        {"command:echo 1", "ended with status 0 after 1 of 2 answers"}, {"command:while read x; do echo good; done", "line 1 of the reward command's answers is no number: 'good'"},
        {"command:while read x; do echo NaN; done", "is no number: 'NaN'"}, {"command:exit 7", "ended with status 7"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_err e = {0};
        struct dan_reward *r = NULL;
        struct dan_answer a[2] = {{.text = "x", .n = 1}, {.text = "y", .n = 1}};
        double got[2];
        assert_int_equal(dan_reward_open(bad[i].spec, &r, &e), DAN_OK);
        assert_int_not_equal(dan_reward_score(r, a, 2, got, &e), DAN_OK);
        if (!strstr(e.msg, bad[i].error)) fail_msg("%s: '%s'", bad[i].spec, e.msg);
        dan_reward_close(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scores), cmocka_unit_test(test_lexicon), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_garbage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
