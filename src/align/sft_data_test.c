/* Rows to ids: what is learnt, what is skipped and counted; the order of steps; packing and cutting change no loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/sft.h"
#include "align/test_chat.h"

static int read_rows(const char *text, int64_t longest, enum dan_learn learn, struct dan_sft_data *d, struct dan_err *e)
{
    struct dan_sft_data_opts o = {.tok = tok, .chat = &chat, .longest = longest, .learn = learn};
    const char *paths[] = {path};
    write_rows(text);
    return dan_sft_data_read(paths, 1, &o, d, e);
}

/* The learnt ids of a row as text. */
static void learnt(const struct dan_sft_row *r, struct dan_str *out)
{
    dan_str_clear(out);
    for (int64_t i = 0; i < r->n; i++)
        if (r->learn[i]) dan_tokenizer_decode(tok, r->ids + i, 1, out);
}

static void test_masks(void **state)
{
    (void)state;
    static const char talk[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"q1\"},{\"role\":\"assistant\",\"content\":\"a1\"%s},"
                               "{\"role\":\"user\",\"content\":\"q2\"},{\"role\":\"assistant\",\"content\":\"a2\"}]}\n";
    static const struct { const char *more; enum dan_learn learn; const char *want; } cases[] = {
        {"", DAN_LEARN_ALL, "a1<|im_end|>a2<|im_end|>"}, {"", DAN_LEARN_LAST, "a2<|im_end|>"}, {",\"weight\":0", DAN_LEARN_ALL, "a2<|im_end|>"},
        {",\"train\":false", DAN_LEARN_ALL, "a2<|im_end|>"}};
    struct dan_str got = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        struct dan_sft_data d;
        struct dan_err e = {0};
        snprintf(text, sizeof text, talk, cases[i].more);
        if (read_rows(text, 1000, cases[i].learn, &d, &e)) fail_msg("%s", e.msg);
        assert_int_equal(d.n, 1);
        learnt(&d.v[0], &got);
        assert_string_equal(dan_str_c(&got), cases[i].want);
        dan_sft_data_release(&d);
    }
    struct dan_sft_data d;
    struct dan_err e = {0};
    if (read_rows("{\"text\":\"abc\"}\n", 1000, DAN_LEARN_ALL, &d, &e)) fail_msg("%s", e.msg);
    learnt(&d.v[0], &got);
    assert_true(dan_str_ends(dan_str_c(&got), "bc<|endoftext|>") || dan_str_ends(dan_str_c(&got), "bc"));
    dan_sft_data_release(&d);
    dan_str_release(&got);
}

static void test_skipped(void **state)
{
    (void)state;
    struct dan_sft_data d;
    struct dan_err e = {0};
    const char *rows = "{\"prompt\":\"a\",\"completion\":\"b\"}\n{broken\n{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n"
                       "{\"prompt\":\"a\",\"completion\":\"one that is far too long for what is allowed here, far too long, indeed much too long\"}\n"
                       "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0}]}\n{\"prompt\":\"a\",\"completion\":\"c\"}\n";
    if (read_rows(rows, 60, DAN_LEARN_ALL, &d, &e)) fail_msg("%s", e.msg);
    assert_int_equal(d.rows, 6);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.skipped[DAN_SKIP_BAD_ROW], 1);
    assert_int_equal(d.skipped[DAN_SKIP_OTHER_KIND], 1);
    assert_int_equal(d.skipped[DAN_SKIP_TOO_LONG], 1);
    assert_int_equal(d.skipped[DAN_SKIP_NOTHING], 1);
    assert_non_null(strstr(dan_str_c(&d.told), "line 4 of"));
    assert_non_null(strstr(dan_str_c(&d.told), "it is not cut"));
    assert_int_equal(d.v[1].line, 6);
    dan_sft_data_release(&d);
    e = (struct dan_err){0};
    assert_int_not_equal(read_rows("{\"text\":\"\"}\n", 60, DAN_LEARN_ALL, &d, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "the text is empty"));
    e = (struct dan_err){0};
    assert_int_not_equal(read_rows("{\"a\":1}\n", 60, DAN_LEARN_ALL, &d, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "none of 1 rows can be learnt from"));
}

static void make_rows(char *text, size_t n)
{
    size_t at = 0;
    for (int i = 0; i < 24; i++)
        at += (size_t)snprintf(text + at, n - at, "{\"prompt\":\"say %d\",\"completion\":\"%.*s\"}\n", i, 1 + i % 9, "abcdefghi");
}

static struct dan_lm small_lm(void)
{
    struct dan_lm_config cfg = {.vocab = dan_tokenizer_vocab_size(tok), .context = 128, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find("llama"), &cfg, 3, &e)) fail_msg("%s", e.msg);
    return lm;
}

/* Three steps with little and with much room in a run: the same losses but for the order of sums, and they fall. */
static void test_steps(void **state)
{
    (void)state;
    static char text[8192];
    double last[2] = {0};
    make_rows(text, sizeof text);
    for (int k = 0; k < 2; k++) {
        struct dan_sft_data d, held;
        struct dan_err e = {0};
        struct dan_sft s;
        struct dan_sft_stats st = {0};
        struct dan_tuner *t;
        struct dan_lm lm = small_lm();
        int64_t rows = k ? 1024 : 128;
        struct dan_tuner_opts o = {.max_rows = rows, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1};
        if (read_rows(text, 100, DAN_LEARN_ALL, &d, &e) || dan_sft_data_hold_out(&d, 0.25, &held, &e)) fail_msg("%s", e.msg);
        assert_int_equal(d.n, 18);
        assert_int_equal(held.n, 6);
        if (dan_tuner_new(&lm, &o, NULL, &t, &e) || dan_sft_init(&s, t, &d, &held, 0.2, 6, rows, 9, &e)) fail_msg("%s", e.msg);
        assert_int_equal(dan_sft_steps_per_epoch(&s), 3);
        double first = 0, after = 0, before = 0, *was = calloc(held.n, sizeof *was), *is = calloc(held.n, sizeof *is);
        assert_int_equal(dan_sft_eval(t, &held, &s.pack, &before, was, &e), DAN_OK);
        for (int i = 0; i < 12; i++) {
            if (dan_sft_step(&s, 1e-2, &st, &e)) fail_msg("%s", e.msg);
            if (i == 0) first = st.loss;
            assert_true(st.replayed > 0 && st.learnt > st.replayed);
        }
        assert_true(st.loss < first);
        last[k] = st.loss;
        assert_int_equal(dan_sft_eval(t, &held, &s.pack, &after, is, &e), DAN_OK);
        struct dan_change c = dan_paired_change(&held, was, is);
        assert_true(fabs(c.before - before) < 1e-9 * before && fabs(c.after - after) < 1e-9 * after && c.change < 0 && c.error > 0);
        free(was);
        free(is);
        dan_sft_release(&s);
        dan_tuner_free(t);
        dan_sft_data_release(&d);
        dan_sft_data_release(&held);
        dan_lm_release(&lm);
    }
    assert_true(fabs(last[0] - last[1]) < 1e-3 * last[0]);
}

/* A share of less than one window a step is kept over the steps. */
static void test_replay_share(void **state)
{
    (void)state;
    static char text[8192];
    struct dan_sft_data d, held;
    struct dan_err e = {0};
    struct dan_sft s;
    struct dan_sft_stats st;
    struct dan_tuner *t;
    struct dan_lm lm = small_lm();
    struct dan_tuner_opts o = {.max_rows = 1024, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1};
    int64_t learnt = 0, replayed = 0, with = 0;
    make_rows(text, sizeof text);
    if (read_rows(text, 100, DAN_LEARN_ALL, &d, &e) || dan_sft_data_hold_out(&d, 0.25, &held, &e)) fail_msg("%s", e.msg);
    if (dan_tuner_new(&lm, &o, NULL, &t, &e) || dan_sft_init(&s, t, &d, &held, 0.05, 6, 1024, 9, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < 24; i++) {
        if (dan_sft_step(&s, 0, &st, &e)) fail_msg("%s", e.msg);
        learnt += st.learnt;
        replayed += st.replayed;
        with += st.replayed > 0;
    }
    double share = (double)replayed / (double)(learnt + replayed);
    if (!(fabs(share - 0.05) < 0.01) || with > 12) fail_msg("replayed %.4f in %lld of 24 steps", share, (long long)with);
    dan_sft_release(&s);
    dan_tuner_free(t);
    dan_sft_data_release(&d);
    dan_sft_data_release(&held);
    dan_lm_release(&lm);
}

static void test_text(void **state)
{
    (void)state;
    struct dan_sft_data d;
    struct dan_err e = {0};
    char text[2001];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    write_rows(text);
    const char *paths[] = {path};
    if (dan_sft_data_text(paths, 1, tok, 100, 0, &d, &e)) fail_msg("%s", e.msg);
    assert_true(d.n >= 20 && d.n <= 21 && d.v[0].n == 100 && d.learnt == d.ids - (int64_t)d.n);
    dan_sft_data_release(&d);
    if (dan_sft_data_text(paths, 1, tok, 100, 7, &d, &e)) fail_msg("%s", e.msg);
    assert_int_equal(d.n, 7);
    assert_int_equal(d.ids, 700);
    dan_sft_data_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_masks), cmocka_unit_test(test_skipped), cmocka_unit_test(test_steps), cmocka_unit_test(test_replay_share), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
