/* The comparison runs through every method on a model that is far too small to show anything, and its sums are right. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/rng.h"
#include "quant/study.h"

static void test_all_methods(void **state)
{
    (void)state;
    enum { N = 4000, V = 12 };
    static int32_t ids[N];
    int64_t zero = 0;
    struct dan_rng r = {.seed = 2};
    struct dan_shards *train, *val;
    struct dan_study s;
    struct dan_err e = {0};
    for (int i = 0; i < N; i++) ids[i] = i ? (int32_t)((ids[i - 1] * 5 + 1 + (int32_t)dan_rng_below(&r, 2)) % V) : 0;
    assert_int_equal(dan_shards_of(ids, N - 600, &zero, 1, -1, &train, &e), DAN_OK);
    assert_int_equal(dan_shards_of(ids + N - 600, 600, &zero, 1, -1, &val, &e), DAN_OK);
    struct dan_study_opts o = {.model = dan_model_find("llama"), .train = train, .val = val, .seeds = 2, .seed = 1, .base_steps = 4, .more_steps = 2, .batch = 2,
                               .eval_batches = 2, .lr = 3e-3,
                               .cfg = {.vocab = V, .context = 16, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1, .pad = -1}};
    if (dan_study_run(&o, &s, &e)) fail_msg("%s", e.msg);
    assert_true(s.params > 0 && s.tokens > 0);
    assert_int_equal(s.n, 2 + 7 * 5 + 2 * 3 + 8);
    for (size_t i = 0; i < s.n; i++)
        for (int k = 0; k < 2; k++)
            if (!isfinite(s.v[i].loss[k])) fail_msg("%s %s: no loss", s.v[i].method, s.v[i].scheme);
    assert_non_null(dan_study_find(&s, "outlier", "SmoothQuant + PTQ", "w8a8"));
    assert_null(dan_study_find(&s, "", "PTQ gptq", "w8a8"));
    dan_study_release(&s);
    dan_shards_free(train);
    dan_shards_free(val);
}

static void test_recovered(void **state)
{
    (void)state;
    struct dan_study_row rows[] = {{"float, same steps", "", "", 32, {1, 1}}, {"PTQ nearest", "w3", "", 3.5, {2, 3}}, {"QAT lsq", "w3", "", 3.5, {1.5, 1.5}},
                                   {"PTQ nearest", "w8a8", "", 8, {1.001, 1.002}}, {"QAT lsq", "w8a8", "", 8, {1, 1}}};
    struct dan_study s = {.v = rows, .n = 5, .seeds = 2};
    double least;
    assert_true(fabs(dan_study_recovered(&s, "", "QAT lsq", "w3", &least) - 0.625) < 1e-12);
    assert_true(fabs(least - 0.5) < 1e-12);
    assert_true(isnan(dan_study_recovered(&s, "", "QAT lsq", "w8a8", &least)));
    struct dan_study_mean m = dan_study_mean_of(&s, &rows[1]);
    assert_true(m.mean == 2.5 && m.half_range == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_methods), cmocka_unit_test(test_recovered)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
