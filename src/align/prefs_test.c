/* Preferences on a tiny model: the loss begins at ln 2 exactly, the gradient is the slope of the loss, pairs that are cut or empty are skipped whole,
 * and every loss learns to prefer what is preferred. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/kto.h"
#include "align/test_chat.h"
#include "model/lora.h"

enum { ROWS = 256 };

static struct dan_sft_data pairs(int n, const char *more)
{
    struct dan_sft_data_opts o = {.tok = tok, .chat = &chat, .longest = 90};
    struct dan_sft_data d;
    struct dan_err e = {0};
    struct dan_str rows = {0};
    const char *paths[] = {path};
    for (int i = 0; i < n; i++) dan_str_printf(&rows, "{\"prompt\":\"say %d\",\"chosen\":\"yes, %d\",\"rejected\":\"no no %c\"}\n", i, i, 'a' + i % 20);
    dan_str_puts(&rows, more);
    write_rows(dan_str_c(&rows));
    dan_str_release(&rows);
    if (dan_pairs_read(paths, 1, &o, &d, &e)) fail_msg("%s", e.msg);
    return d;
}

static struct dan_lm small_lm(void)
{
    struct dan_lm_config cfg = {.vocab = dan_tokenizer_vocab_size(tok), .context = 128, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find("llama"), &cfg, 3, &e)) fail_msg("%s", e.msg);
    return lm;
}

static struct dan_tuner *tuner_with(struct dan_lm *lm, enum dan_prec prec)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .prec = prec, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static struct dan_tuner *new_tuner(struct dan_lm *lm) { return tuner_with(lm, DAN_PREC_F32); }

/* By the program of evaluation, as dan_prefs_eval sees them. */
static void score_by_eval(struct dan_tuner *t, const struct dan_sft_data *d, struct dan_packed *pack, double *sum)
{
    const struct dan_sft_row *row[64];
    struct dan_err e = {0};
    assert_true(d->n <= 64);
    for (size_t i = 0; i < d->n; i++) row[i] = &d->v[i];
    if (dan_rows_logp(t, row, d->n, pack, sum, &e)) fail_msg("%s", e.msg);
}

static void test_pairs(void **state)
{
    (void)state;
    struct dan_str text = {0};
    struct dan_err e = {0};
    struct dan_sft_data held, d = pairs(4, "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"one that is far too long, far too "
                                           "long, far too long, far too long, indeed\"}\n{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}\n{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\" \"}\n");
    assert_int_equal(d.n, 8);
    assert_int_equal(d.skipped[DAN_SKIP_NOTHING], 1);
    assert_non_null(strstr(dan_str_c(&d.told), "an empty answer (number 2)"));
    assert_int_equal(d.skipped[DAN_SKIP_OTHER_KIND], 1);
    assert_int_equal(d.skipped[DAN_SKIP_TOO_LONG], 1);
    assert_int_equal(d.skipped[DAN_SKIP_BAD_ROW], 1);
    for (int k = 0; k < 2; k++) {
        dan_str_clear(&text);
        for (int64_t i = 0; i < d.v[k].n; i++)
            if (d.v[k].learn[i]) dan_tokenizer_decode(tok, d.v[k].ids + i, 1, &text);
        assert_string_equal(dan_str_c(&text), k ? "no no a<|im_end|>" : "yes, 0<|im_end|>");
    }
    assert_int_equal(dan_pairs_hold_out(&d, 0.5, &held, &e), DAN_OK);
    assert_int_equal(d.n, 4);
    assert_int_equal(held.n, 4);
    assert_int_equal(held.v[0].line, 2);
    dan_str_release(&text);
    dan_sft_data_release(&d);
    dan_sft_data_release(&held);
}

/* All pairs of different rank; answers that are the same once rendered prefer nothing; the pairs of one row stay together. */
static void test_ranked(void **state)
{
    (void)state;
    static const struct { int64_t line; const char *chosen, *rejected; } want[] = {
        {1, "b", "c"}, {1, "b", "d"}, {2, "c", "b"}, {2, "c", "d"}, {2, "d", "b"}, {4, "e", "f"}, {5, "e", "f"}};
    struct dan_str text = {0};
    struct dan_err e = {0};
    struct dan_sft_data held, d = pairs(0, "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\",\"d\"],\"ranks\":[1,2,2]}\n"
                                           "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\",\"d\"],\"ranks\":[3,1,2]}\n"
                                           "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"ranks\":[1,1]}\n"
                                           "{\"prompt\":\"a\",\"chosen\":\"e\",\"rejected\":\"f\"}\n{\"prompt\":\"a\",\"chosen\":\"e\",\"rejected\":\"f\"}\n");
    assert_int_equal(d.n, 14);
    assert_int_equal(d.skipped[DAN_SKIP_NOTHING], 1);
    for (size_t k = 0; k < d.n; k++) {
        const struct dan_sft_row *r = &d.v[k];
        dan_str_clear(&text);
        for (int64_t i = 0; i < r->n; i++)
            if (r->learn[i]) dan_tokenizer_decode(tok, r->ids + i, 1, &text);
        assert_int_equal(r->line, want[k / 2].line);
        assert_int_equal(dan_str_c(&text)[0], (k % 2 ? want[k / 2].rejected : want[k / 2].chosen)[0]);
    }
    assert_int_equal(dan_pairs_hold_out(&d, 0.5, &held, &e), DAN_OK);
    assert_int_equal(d.n, 6);
    assert_int_equal(held.n, 8);
    assert_int_equal(held.v[0].line, 2);
    dan_str_release(&text);
    dan_sft_data_release(&d);
    dan_sft_data_release(&held);
}

static void test_losses(void **state)
{
    (void)state;
    for (int i = 0; dan_pref_losses[i]; i++) {
        const struct dan_pref_loss *loss = dan_pref_losses[i];
        struct dan_lm lm = small_lm();
        struct dan_tuner *t = new_tuner(&lm);
        struct dan_sft_data d = pairs(12, "");
        struct dan_prefs p;
        struct dan_pref_stats s, first;
        struct dan_err e = {0};
        double norm;
        if (dan_prefs_init(&p, t, &d, loss, &loss->usual, 6, ROWS, 1, &e)) fail_msg("%s", e.msg);
        double ref[24];
        score_by_eval(t, &d, &p.pack, ref);
        if (dan_prefs_eval(&p, &d, ref, &first, &e)) fail_msg("%s", e.msg);
        if (!strcmp(loss->name, "sigmoid")) assert_true(first.loss == M_LN2 && first.margin == 0 && first.accuracy == 0.5);
        for (int k = 0; k < 30; k++)
            if (dan_prefs_step(&p, 1e-2, &s, &norm, &e)) fail_msg("%s", e.msg);
        if (dan_prefs_eval(&p, &d, ref, &s, &e)) fail_msg("%s", e.msg);
        if (!(s.loss < first.loss && s.accuracy > 0.9)) fail_msg("%s: loss %g -> %g, accuracy %g", loss->name, first.loss, s.loss, s.accuracy);
        dan_prefs_release(&p);
        dan_sft_data_release(&d);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
}

/* The reference is what the first step sees, to the bit: of all weights and of an adapter, in f32 and bf16, alone in a pack or among others, split over two. */
static void test_first_step(void **state)
{
    (void)state;
    const struct dan_pref_loss *loss = dan_pref_find("sigmoid");
    for (int i = 0; i < 8; i++) {
        struct dan_lm lm = small_lm();
        struct dan_lora_opts lo = {.rank = 4, .alpha = 8, .targets = "all-linear", .last_layer = -1, .seed = 5};
        struct dan_err e = {0};
        if (i & 1 && dan_lora_add(&lm, &lo, &e)) fail_msg("%s", e.msg);
        if (i & 1) lm.adapter[0].trained = true;
        struct dan_tuner *t = tuner_with(&lm, i & 2 ? DAN_PREC_BF16 : DAN_PREC_F32);
        struct dan_sft_data d = pairs(12, "");
        struct dan_prefs p;
        struct dan_pref_stats s;
        double norm;
        if (dan_prefs_init(&p, t, &d, loss, &loss->usual, 5, i & 4 ? 50 : ROWS, 1, &e)) fail_msg("%s", e.msg);
        if (dan_prefs_step(&p, 1e-2, &s, &norm, &e)) fail_msg("%s", e.msg);
        if (s.margin != 0 || s.reward[0] != 0 || s.reward[1] != 0 || fabs(s.loss - M_LN2) > 1e-15 || s.accuracy != 0.5)
            fail_msg("kind %d: loss %.17g, margin %g, rewards %g and %g, accuracy %g", i, s.loss, s.margin, s.reward[0], s.reward[1], s.accuracy);
        if (dan_prefs_step(&p, 1e-2, &s, &norm, &e)) fail_msg("%s", e.msg);
        assert_true(s.margin != 0);
        dan_prefs_release(&p);
        dan_sft_data_release(&d);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
}

/* d loss / d w of DPO through the seeds against a difference of the loss, at a model that is no longer its reference. */
static void test_gradient(void **state)
{
    (void)state;
    struct dan_lm lm = small_lm();
    struct dan_tuner *t = new_tuner(&lm);
    struct dan_sft_data d = pairs(4, "");
    const struct dan_pref_loss *loss = dan_pref_find("sigmoid");
    struct dan_prefs p;
    struct dan_pref_stats up, down;
    struct dan_pref_opts o = loss->usual;
    struct dan_err e = {0};
    o.nll = 0.7;
    if (dan_prefs_init(&p, t, &d, loss, &o, 4, ROWS, 1, &e)) fail_msg("%s", e.msg);
    float *w = dan_store_find(lm.store, "blk.0.ffn_down.weight")->data, kept = w[7];
    for (int k = 0; k < 40; k++) w[k] += 0.3f;
    kept = w[7];
    const float h = 0.05f;
    w[7] = kept + h;
    assert_int_equal(dan_prefs_eval(&p, &d, p.ref, &up, &e), DAN_OK);
    w[7] = kept - h;
    assert_int_equal(dan_prefs_eval(&p, &d, p.ref, &down, &e), DAN_OK);
    w[7] = kept;
    double slope = (up.loss - down.loss) / (2 * (double)h), norm;
    struct dan_pref_stats s;
    assert_int_equal(dan_prefs_step(&p, 0, &s, &norm, &e), DAN_OK);
    double got = (double)((float *)dan_store_find(dan_tuner_state(t), "sum:blk.0.ffn_down.weight")->data)[7];
    if (fabs(got - slope) > 0.02 * fabs(slope) + 1e-6) fail_msg("gradient %g, slope %g", got, slope);
    dan_prefs_release(&p);
    dan_sft_data_release(&d);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

/* KTO on the same pairs as single answers: half the weights at first, then the rewards part; the mismatched rows are prompts with others' answers. */
static void test_kto(void **state)
{
    (void)state;
    struct dan_lm lm = small_lm();
    struct dan_tuner *t = new_tuner(&lm);
    struct dan_sft_data_opts o = {.tok = tok, .chat = &chat, .longest = 90};
    struct dan_sft_data d, none = pairs(8, "{\"prompt\":\"x\",\"completion\":\"y\",\"label\":true}\n");
    struct dan_kto_run k;
    struct dan_kto_stats s;
    struct dan_str text = {0};
    struct dan_err e = {0};
    const char *paths[] = {path};
    double norm;
    dan_sft_data_release(&none);
    if (dan_labelled_read(paths, 1, &o, &d, &e)) fail_msg("%s", e.msg);
    assert_int_equal(d.n, 17);
    assert_true(d.v[0].desirable && !d.v[1].desirable && d.v[16].desirable);
    if (dan_kto_init(&k, t, &d, 0.1, (const double[]){0, 0}, 6, ROWS, 1, &e)) fail_msg("%s", e.msg);
    assert_true(k.weight[0] == 1 && fabs(k.weight[1] - 9.0 / 8) < 1e-12);
    dan_tokenizer_decode(tok, k.mixed.v[1].ids, (size_t)k.mixed.v[1].n, &text);
    assert_non_null(strstr(dan_str_c(&text), "say 0"));
    assert_non_null(strstr(dan_str_c(&text), "yes, 1"));
    double ref[17];
    score_by_eval(t, &d, &k.pack, ref);
    assert_int_equal(dan_kto_eval(&k, &d, ref, &s, &e), DAN_OK);
    assert_true(s.reward[0] == 0 && s.reward[1] == 0);
    assert_int_equal(dan_kto_step(&k, 1e-2, &s, &norm, &e), DAN_OK);
    assert_true(s.reward[0] == 0 && s.reward[1] == 0 && s.z == 0);
    for (int i = 0; i < 40; i++)
        if (dan_kto_step(&k, 1e-2, &s, &norm, &e)) fail_msg("%s", e.msg);
    assert_int_equal(dan_kto_eval(&k, &d, ref, &s, &e), DAN_OK);
    if (!(s.reward[0] > s.reward[1] + 0.1)) fail_msg("rewards %g and %g", s.reward[0], s.reward[1]);
    dan_str_release(&text);
    dan_kto_release(&k);
    dan_sft_data_release(&d);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs), cmocka_unit_test(test_ranked), cmocka_unit_test(test_losses), cmocka_unit_test(test_first_step), cmocka_unit_test(test_gradient), cmocka_unit_test(test_kto)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
