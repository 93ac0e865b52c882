/* Reward models: what of the data is learnt and what is skipped, the loss against the formula, a step against differences, evaluation on numbers known
 * beforehand, and a world whose best accuracy is known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/pref.h"
#include "align/reward_eval.h"
#include "align/reward_model.h"
#include "align/sft_data_impl.h"
#include "align/test_chat.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/score.h"

enum { ROWS = 256 };

static int read_rows(const char *text, const struct dan_chat_template *by, struct dan_ranked *d, struct dan_err *e)
{
    struct dan_sft_data_opts o = {.tok = tok, .chat = by, .longest = 90};
    const char *paths[] = {path};
    write_rows(text);
    return dan_ranked_read(paths, 1, &o, d, e);
}

static struct dan_ranked data(const char *text)
{
    struct dan_ranked d;
    struct dan_err e = {0};
    if (read_rows(text, &chat, &d, &e)) fail_msg("%s", e.msg);
    return d;
}

static int32_t last_id(const struct dan_ranked *d, size_t row) { return d->rows.v[row].ids[d->rows.v[row].n - 1]; }

static void test_reading(void **state)
{
    (void)state;
    struct dan_ranked d = data("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"cc\",\"margin\":0.5}\n"
                               "{\"prompt\":\"a\",\"completions\":[\"x\",\"y\",\"z\"],\"ranks\":[2,1,2]}\n"
                               "{\"prompt\":\"a\",\"completions\":[\"x\",\"y\"],\"ranks\":[3,3]}\n"
                               "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}\n"
                               "{\"prompt\":\"a\",\"chosen\":\" \",\"rejected\":\"b\"}\n"
                               "{\"prompt\":\"a\",\"completion\":\"b\"}\n"
                               "{oops\n"
                               "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"far too long, far too long, far too long, far too long, far too long, far too long, far too\"}\n");
    assert_int_equal(d.n, 2);
    assert_int_equal(d.rows.n, 5);
    assert_int_equal(d.pairs, 3);
    assert_true(d.v[0].margin == 0.5 && d.v[1].margin == 0 && d.margins);
    assert_int_equal(d.v[1].pairs, 2);
    assert_int_equal(d.rank[3], 1);
    assert_int_equal(d.rows.rows, 8);
    assert_int_equal(d.rows.skipped[DAN_SKIP_NOTHING], 2);             /* equal ranks, an empty answer */
    assert_int_equal(d.rows.skipped[DAN_SKIP_BAD_ROW], 2);             /* equal answers, no JSON */
    assert_int_equal(d.rows.skipped[DAN_SKIP_OTHER_KIND], 1);
    assert_int_equal(d.rows.skipped[DAN_SKIP_TOO_LONG], 1);
    assert_non_null(strstr(dan_str_c(&d.rows.told), "line 5"));
    assert_int_equal(last_id(&d, 0), dan_tokenizer_find_special(tok, "<|im_end|>"));   /* not the newline that the template writes behind it */
    assert_int_equal(d.rows.v[1].learnt, 3);
    dan_ranked_release(&d);
    struct dan_err e = {0};
    assert_int_not_equal(read_rows("{\"prompt\":\"a\",\"completion\":\"b\"}\n", &chat, &d, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "none of 1 rows"));
}

static void test_eos(void **state)
{
    (void)state;
    struct dan_chat_template plain = {0};
    struct dan_ranked d;
    struct dan_err e = {0};
    if (dan_chat_template_open(&plain, tok, "plain", NULL, &e) || read_rows("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n", &plain, &d, &e)) fail_msg("%s", e.msg);
    assert_int_equal(last_id(&d, 0), dan_tokenizer_eos(tok));
    struct dan_sft_data_opts o = {.tok = tok, .chat = &chat, .longest = 90};
    struct dan_example ex = {.kind = DAN_EXAMPLE_LABELLED, .messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "a"),
                             .answers = json_pack("[[{s:s,s:s}]]", "role", "assistant", "content", "bc"), .file = "f"};
    struct dan_sft_row whole, cut;
    enum dan_skip skip;
    if (dan_valued_row(&ex, 0, true, &o, &whole, &skip, &e) || dan_valued_row(&ex, 0, false, &o, &cut, &skip, &e)) fail_msg("%s", e.msg);
    assert_int_equal(cut.n, whole.n - 1);                              /* an answer that was cut short has no end of turn */
    assert_memory_equal(cut.ids, whole.ids, (size_t)cut.n * sizeof *cut.ids);
    dan_sft_row_release(&whole);
    dan_sft_row_release(&cut);
    dan_example_release(&ex);
    dan_ranked_release(&d);
    dan_chat_template_release(&plain);
}

static void test_parts(void **state)
{
    (void)state;
    struct dan_str text = {0};
    struct dan_ranked held, d;
    struct dan_err e = {0};
    for (int i = 0; i < 40; i++) dan_str_printf(&text, "{\"prompt\":\"q%d\",\"chosen\":\"a%d\",\"rejected\":\"b\"}\n", i % 20, i);
    d = data(dan_str_c(&text));
    assert_int_equal(dan_ranked_hold_out(&d, 0.25, &held, &e), DAN_OK);
    assert_int_equal(d.n, 30);
    assert_int_equal(held.n, 10);
    assert_int_equal(d.pairs, 30);
    assert_int_equal(d.rows.rows, 40);
    for (size_t i = 0; i < held.n; i++)                                /* both rows of a prompt, or none: no leak */
        for (size_t k = 0; k < d.n; k++) {
            const struct dan_sft_row *a = &held.rows.v[held.v[i].first], *b = &d.rows.v[d.v[k].first];
            int64_t p = 0;
            while (p < a->n && !a->learn[p]) p++;
            assert_false(b->n > p && b->learn[p] && !b->learn[p - 1] && !memcmp(a->ids, b->ids, (size_t)p * sizeof *a->ids));
        }
    int first = 0;
    for (int s = 0; s < 40; s++) {
        dan_ranked_shuffle(&d, (uint64_t)s);
        for (size_t i = 0; i < d.n; i++) {
            first += d.rank[d.v[i].first] == 1;
            assert_int_equal(d.rank[d.v[i].first] + d.rank[d.v[i].first + 1], 3);
        }
    }
    assert_in_range(first, 520, 680);                                  /* of 1200: 4.6 standard errors */
    dan_str_release(&text);
    dan_ranked_release(&d);
    dan_ranked_release(&held);
}

/* ---- the loss ---- */

static void test_loss(void **state)
{
    (void)state;
    const double r[4] = {1, 0.2, -0.5, 0.7};
    const int32_t rank[4] = {1, 3, 4, 2};
    const int ranks[4] = {1, 3, 4, 2};
    struct dan_rank_group g = {.n = 4, .pairs = 6}, pair = {.n = 2, .pairs = 1, .margin = 1.0 / 3};
    double seed[4], other[4], right, h = 1e-6;
    assert_true(fabs(dan_rm_group_loss(&g, rank, r, 1, 0, seed, &right) - 0.3779024481) < 1e-9 && right == 6);
    dan_ranked_loss(r, ranks, 4, 0, other, NULL, NULL);
    for (int i = 0; i < 4; i++) assert_true(fabs(seed[i] - other[i]) < 1e-15);
    const double two[2] = {1.2, 0.4};
    assert_true(fabs(dan_rm_group_loss(&pair, rank, two, 1, 0, seed, &right) - 0.4867925811) < 1e-9);
    assert_true(fabs(dan_rm_group_loss(&pair, rank, two, 3, 0, seed, &right) - 0.7981388694) < 1e-9);
    assert_true(fabs(dan_rm_group_loss(&pair, rank, two, 0, 0.01, seed, &right) - 0.3711006659 - 0.0256) < 1e-9);
    for (int i = 0; i < 2; i++) {
        double up[2] = {1.2, 0.4}, down[2] = {1.2, 0.4};
        up[i] += h, down[i] -= h;
        double slope = (dan_rm_group_loss(&pair, rank, up, 1, 0.01, other, &right) - dan_rm_group_loss(&pair, rank, down, 1, 0.01, other, &right)) / (2 * h);
        dan_rm_group_loss(&pair, rank, two, 1, 0.01, seed, &right);
        assert_true(fabs(seed[i] - slope) < 1e-8);
    }
    const double same[2] = {0.3, 0.3};
    dan_rm_group_loss(&pair, rank, same, 0, 0, seed, &right);
    assert_true(right == 0.5);
}

static struct dan_lm small_lm(void)
{
    struct dan_lm_config cfg = {.vocab = dan_tokenizer_vocab_size(tok), .context = 128, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1, .pad = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find("llama"), &cfg, 3, &e) || dan_lm_add_score(&lm, &(struct dan_score_opts){.std = 0.1}, &e)) fail_msg("%s", e.msg);
    return lm;
}

static struct dan_tuner *new_tuner(struct dan_lm *lm, const char *optim)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .head = DAN_HEAD_SCORE, .optim = dan_optim_find(optim), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

/* One run for all answers, one for each group, or several for one group give the same step; the value does not depend on neighbours (bit for bit). */
static void test_step(void **state)
{
    (void)state;
    struct dan_ranked d = data("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"cc\",\"margin\":0.5}\n{\"prompt\":\"q\",\"completions\":[\"x\",\"yy\",\"zzz\"],\"ranks\":[2,1,3]}\n"
                               "{\"prompt\":\"w\",\"chosen\":\"bbbb\",\"rejected\":\"c\"}\n");
    struct dan_rm_opts o = {.margin = 1, .center = 0.01, .batch = 3, .seed = 1};
    static const int64_t pack_rows[] = {ROWS, 90, 40};
    struct dan_rm_stats s[3];
    double norm[3], alone, all[7];
    float w[3];
    struct dan_err e = {0};
    assert_true(d.rows.v[0].n <= 40 && d.rows.v[0].n + d.rows.v[1].n > 40);
    for (int k = 0; k < 3; k++) {
        struct dan_lm lm = small_lm();
        struct dan_tuner *t = new_tuner(&lm, "adamw");
        struct dan_rm r;
        if (dan_rm_init(&r, t, &d, &o, pack_rows[k], &e)) fail_msg("%s", e.msg);
        const struct dan_sft_row *rows[7];
        for (size_t i = 0; i < d.rows.n; i++) rows[i] = &d.rows.v[i];
        if (dan_rows_value(t, rows, d.rows.n, &r.pack, all, &e) || dan_rows_value(t, rows + 3, 1, &r.pack, &alone, &e)) fail_msg("%s", e.msg);
        assert_true(alone == all[3]);
        if (dan_rm_step(&r, 1e-3, &s[k], &norm[k], &e)) fail_msg("%s", e.msg);
        w[k] = ((const float *)dan_lm_score_of(&lm, NULL)->data)[0];
        assert_int_equal(s[k].pairs, 5);
        assert_int_equal(s[k].answers, 7);
        dan_rm_release(&r);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
    assert_true(s[0].min_reward <= s[0].mean_reward && s[0].mean_reward <= s[0].max_reward);
    for (int k = 1; k < 3; k++) {
        assert_memory_equal(&s[0], &s[k], sizeof s[0]);
        assert_true(fabs(norm[0] - norm[k]) < 1e-5 * norm[0] && fabsf(w[0] - w[k]) < 1e-6f);
    }
    dan_ranked_release(&d);
}

/* ---- a world with a known answer ---- */

/* An answer of a and b; the more b in it, the better: chosen with probability sigmoid of the difference. */
static double answer(struct dan_rng *rng, char *out)
{
    int n = 4, b = 0;
    for (int i = 0; i < n; i++) {
        out[i] = dan_rng_uniform(rng) < 0.5 ? 'a' : 'b';
        b += out[i] == 'b';
    }
    out[n] = 0;
    return b;
}

static struct dan_ranked world(int n, uint64_t seed, double *bayes)
{
    struct dan_rng rng = {.seed = seed};
    struct dan_str text = {0};
    *bayes = 0;
    for (int i = 0; i < n;) {
        char x[8], y[8];
        double p = 1 / (1 + exp(answer(&rng, y) - answer(&rng, x)));   /* the first argument is drawn last or first: both orders are the same world */
        if (!strcmp(x, y)) continue;
        bool first = dan_rng_uniform(&rng) < p;
        dan_str_printf(&text, "{\"prompt\":\"p%d\",\"chosen\":\"%s\",\"rejected\":\"%s\"}\n", i % 5, first ? x : y, first ? y : x);
        *bayes += fmax(p, 1 - p) / n;
        i++;
    }
    struct dan_ranked d = data(dan_str_c(&text));
    dan_str_release(&text);
    return d;
}

static void judge(struct dan_rm *r, const struct dan_ranked *d, struct dan_rm_report *out)
{
    const struct dan_sft_row **row = dan_malloc(d->rows.n * sizeof *row);
    double *reward = dan_malloc(d->rows.n * sizeof *reward);
    struct dan_err e = {0};
    for (size_t i = 0; i < d->rows.n; i++) row[i] = &d->rows.v[i];
    if (dan_rows_value(r->tuner, row, d->rows.n, &r->pack, reward, &e) || dan_rm_judge(d, reward, 1, out, &e)) fail_msg("%s", e.msg);
    dan_free(row);
    dan_free(reward);
}

static void learn(bool shuffled, struct dan_rm_report *out, double *bayes)
{
    double ignored;
    struct dan_ranked d = world(600, 1, &ignored), held = world(400, 2, bayes);
    struct dan_rm_opts o = {.batch = 16, .seed = 1};
    struct dan_lm lm = small_lm();
    struct dan_tuner *t = new_tuner(&lm, "adamw");
    struct dan_rm r;
    struct dan_rm_stats s;
    struct dan_err e = {0};
    double norm;
    if (shuffled) dan_ranked_shuffle(&d, 3), dan_ranked_shuffle(&held, 4);
    if (dan_rm_init(&r, t, &d, &o, ROWS, &e)) fail_msg("%s", e.msg);
    for (int k = 0; k < 80; k++)
        if (dan_rm_step(&r, 3e-3 * (1 - k / 80.0), &s, &norm, &e)) fail_msg("%s", e.msg);
    judge(&r, &held, out);
    dan_rm_release(&r);
    dan_tuner_free(t);
    dan_lm_release(&lm);
    dan_ranked_release(&d);
    dan_ranked_release(&held);
}

static void test_world(void **state)
{
    (void)state;
    struct dan_rm_report r;
    double bayes;
    learn(false, &r, &bayes);
    if (!(r.accuracy > bayes - 0.05 && r.low > 0.6)) fail_msg("accuracy %.3f, the best possible %.3f", r.accuracy, bayes);
    if (!(r.ece < 0.1)) fail_msg("calibration error %.3f", r.ece);
    learn(true, &r, &bayes);
    if (!(r.low < 0.5 && r.high > 0.5)) fail_msg("shuffled labels: accuracy %.3f (%.3f to %.3f)", r.accuracy, r.low, r.high);
}

/* ---- evaluation ---- */

static void test_wilson(void **state)
{
    (void)state;
    double low, high;
    dan_wilson(81, 263, &low, &high);          /* Newcombe 1998, table I: 0.2553 to 0.3662 */
    assert_true(fabs(low - 0.2553) < 5e-5 && fabs(high - 0.3662) < 5e-5);
    dan_wilson(0, 20, &low, &high);            /* 0 to 0.1611 */
    assert_true(low < 1e-12 && fabs(high - 0.1611) < 5e-5);
}

static void test_judging(void **state)
{
    (void)state;
    struct dan_str text = {0};
    for (int i = 0; i < 8; i++) dan_str_printf(&text, "{\"prompt\":\"q%d\",\"chosen\":\"aa\",\"rejected\":\"b\",\"margin\":%d}\n", i, i % 2 + 1);
    struct dan_ranked d = data(dan_str_c(&text));
    struct dan_rm_report r;
    struct dan_err e = {0};
    double reward[16];
    for (int i = 0; i < 8; i++) {              /* margin 1: half right; margin 2: all right, and surer */
        double delta = i % 2 ? 2 : i % 4 ? 0.5 : -0.5;
        reward[2 * i] = 1 + delta / 2;
        reward[2 * i + 1] = 1 - delta / 2;
    }
    if (dan_rm_judge(&d, reward, 1, &r, &e)) fail_msg("%s", e.msg);
    assert_true(r.pairs == 8 && r.groups == 8 && r.answers == 16 && !r.clustered && r.by == DAN_BY_MARGIN);
    assert_true(fabs(r.accuracy - 0.75) < 1e-12 && fabs(r.margin - 1) < 1e-12 && fabs(r.mean - 1) < 1e-12);
    assert_true(r.n_levels == 2 && r.level[0].from == 1 && r.level[0].accuracy == 0.5 && r.level[1].accuracy == 1 && r.level[1].pairs == 4);
    assert_true(r.n_sure == 4 && r.sure[0].accuracy + r.sure[1].accuracy == 1 && r.sure[3].from == 2);
    double p = 1 / (1 + exp(-0.5)), q = 1 / (1 + exp(-2));
    assert_true(r.calibration[2].pairs == 4 && fabs(r.calibration[2].predicted - p) < 1e-12 && r.calibration[2].observed == 0.5);
    assert_true(fabs(r.ece - ((p - 0.5) + (1 - q)) / 2) < 1e-12);
    assert_true(r.longer_data == 1 && r.longer_model == 0.75);
    for (int i = 0; i < 16; i++) reward[i] = i % 2 ? 0 : 3;            /* rewards that are the length */
    if (dan_rm_judge(&d, reward, 1, &r, &e)) fail_msg("%s", e.msg);
    assert_true(fabs(r.length - 1) < 1e-12 && r.longer_model == 1);
    dan_ranked_release(&d);
    dan_str_clear(&text);
    for (int i = 0; i < 30; i++) dan_str_printf(&text, "{\"prompt\":\"q%d\",\"completions\":[\"a\",\"b\",\"c\"],\"ranks\":[1,2,3]}\n", i);
    d = data(dan_str_c(&text));
    double three[90];
    for (int i = 0; i < 90; i++) three[i] = i % 3 == 0 ? 2 : i / 3 % 2 ? i % 3 : -i % 3;
    if (dan_rm_judge(&d, three, 1, &r, &e)) fail_msg("%s", e.msg);
    assert_true(r.clustered && r.by == DAN_BY_RANK && r.pairs == 90 && r.n_levels == 2 && r.level[0].pairs == 60 && r.level[1].to == 2);
    assert_true(r.low < r.accuracy && r.accuracy < r.high);
    dan_ranked_release(&d);
    dan_str_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reading), cmocka_unit_test(test_eos), cmocka_unit_test(test_parts), cmocka_unit_test(test_loss),
                                       cmocka_unit_test(test_step), cmocka_unit_test(test_world), cmocka_unit_test(test_wilson), cmocka_unit_test(test_judging)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
