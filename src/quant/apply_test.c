/* A whole model: what each method makes of it, by the KL of its logits; sensitivity; what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/rng.h"
#include "quant/job.h"
#include "quant/sensitivity.h"

enum { VOCAB = 40, CONTEXT = 32, WINDOWS = 12 };

static int32_t ids[WINDOWS * CONTEXT];
static int64_t start[WINDOWS + 1];

static struct dan_sequences text(void)
{
    struct dan_rng r = {.seed = 11};
    for (int i = 0; i < WINDOWS * CONTEXT; i++) ids[i] = (int32_t)dan_rng_below(&r, VOCAB);
    for (int i = 0; i <= WINDOWS; i++) start[i] = i * CONTEXT;
    return (struct dan_sequences){ids, start, WINDOWS};
}

static struct dan_lm new_lm(const char *family, bool tied)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = CONTEXT, .hidden = 64, .layers = 2, .heads = 4, .ffn = 96, .tied = tied, .bos = -1, .eos = -1,
                                .init_std = 0.3};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 3, &e)) fail_msg("%s", e.msg);
    return lm;
}

static struct dan_comparison quality(const struct dan_baseline *b, struct dan_lm *lm)
{
    struct dan_comparison c;
    struct dan_err e = {0};
    if (dan_compare(b, lm, &(struct dan_compare_opts){0}, &c, &e)) fail_msg("%s", e.msg);
    return c;
}

static struct dan_baseline *baseline(struct dan_lm *lm, const struct dan_sequences *t)
{
    struct dan_lm copy;
    struct dan_baseline *b = NULL;
    struct dan_err e = {0};
    if (dan_lm_share(lm, &copy, &e) || dan_baseline_new(&copy, t, &(struct dan_compare_opts){0}, &b, &e)) fail_msg("%s", e.msg);
    dan_lm_release(&copy);
    return b;
}

/* KL of a copy of lm that was quantised. */
static double kl_of(struct dan_lm *lm, const struct dan_baseline *b, const char *to, const char *method, enum dan_apply_order order, const struct dan_sequences *t)
{
    struct dan_lm copy;
    struct dan_quant_form f;
    struct dan_quant_job j = {.alpha = 0.5};
    struct dan_err e = {0};
    if (dan_lm_share(lm, &copy, &e) || dan_quant_form_find(to, &f, &e) || dan_quant_job_method(method, &j, &e)) fail_msg("%s", e.msg);
    j.apply = (struct dan_apply_opts){.form = &f, .order = order, .round = {.steps = 40}};
    if (dan_quant_job_run(&copy, &j, t, NULL, &e)) fail_msg("%s %s: %s", to, method, e.msg);
    double kl = quality(b, &copy).kl;
    dan_lm_release(&copy);
    return kl;
}

static void test_same(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gpt", "lstm"};
    struct dan_sequences t = text();
    for (int i = 0; i < 3; i++) {
        struct dan_lm lm = new_lm(families[i], true);
        struct dan_baseline *b = baseline(&lm, &t);
        struct dan_comparison c = quality(b, &lm);
        assert_true(c.kl == 0 && c.kl_max == 0 && c.same_top == 1 && c.more == 0 && c.more_error == 0);
        assert_int_equal(c.tokens, WINDOWS * (CONTEXT - 1));
        assert_true(fabs(c.loss - c.base) < 1e-12 && c.loss_error > 0 && c.loss > 0);
        dan_baseline_free(b);
        dan_lm_release(&lm);
    }
}

static void test_methods(void **state)
{
    (void)state;
    struct dan_sequences t = text();
    struct dan_lm lm = new_lm("llama", false);
    struct dan_baseline *b = baseline(&lm, &t);
    double nearest = kl_of(&lm, b, "w3_g32", "nearest", DAN_ORDER_ONCE, &t);
    assert_true(nearest > 1e-4);
    assert_true(kl_of(&lm, b, "q8_0", "nearest", DAN_ORDER_ONCE, NULL) < 0.1 * nearest);
    assert_true(kl_of(&lm, b, "int8", "nearest", DAN_ORDER_ONCE, NULL) < 0.2 * nearest);
    assert_true(kl_of(&lm, b, "w3_g32", "mse", DAN_ORDER_ONCE, NULL) < nearest);
    assert_true(kl_of(&lm, b, "w3_g32", "imatrix", DAN_ORDER_ONCE, &t) < nearest);
    for (int order = DAN_ORDER_LAYERS; order <= DAN_ORDER_ONCE; order++)
        assert_true(kl_of(&lm, b, "w3_g32", "gptq", (enum dan_apply_order)order, &t) < 0.9 * nearest);
    assert_true(kl_of(&lm, b, "w3_g32", "adaround", DAN_ORDER_ONCE, &t) < 0.9 * nearest);
    assert_true(kl_of(&lm, b, "w3_g32", "signround", DAN_ORDER_ONCE, &t) < nearest);
    assert_true(kl_of(&lm, b, "w3_g32", "smoothquant+gptq", DAN_ORDER_LAYERS, &t) < 1.5 * nearest);
    assert_true(kl_of(&lm, b, "w3_g32", "awq", DAN_ORDER_LAYERS, &t) < 1.5 * nearest);
    assert_true(quality(b, &lm).kl == 0);                      /* nobody touched the float model */
    dan_baseline_free(b);
    dan_lm_release(&lm);
}

struct seen { int done, stayed; size_t bytes; };

static void on_tensor(void *ctx, const struct dan_applied *a)
{
    struct seen *s = ctx;
    s->done += a->why == NULL;
    s->stayed += a->why != NULL;
    s->bytes += a->bytes_after;
}

static int apply(struct dan_lm *lm, const char *to, struct seen *s, struct dan_err *e)
{
    struct dan_quant_form f;
    int rc = dan_quant_form_find(to, &f, e);
    return rc ? rc : dan_lm_apply(lm, &(struct dan_apply_opts){.form = &f, .report = on_tensor, .ctx = s}, e);
}

static void test_bytes(void **state)
{
    (void)state;
    static const char *const forms[] = {"q8_0", "q4_0", "int8", "int8_asym", "int8_tensor"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct dan_lm lm = new_lm("llama", true);
        struct seen s = {0};
        struct dan_err e = {0};
        if (apply(&lm, forms[i], &s, &e)) fail_msg("%s", e.msg);
        assert_int_equal(s.done, 15);
        assert_int_equal(s.bytes, dan_store_bytes(lm.store));
        assert_int_equal(apply(&lm, "q8_0", &s, &e), DAN_EINVAL);
        assert_non_null(strstr(e.msg, "quantised already"));
        dan_lm_release(&lm);
    }
}

static void test_nan(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", true);
    struct seen s = {0};
    struct dan_err e = {0};
    ((float *)dan_store_find(lm.store, "blk.1.ffn_up.weight")->data)[70] = NAN;
    assert_int_equal(apply(&lm, "q4_0", &s, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "blk.1.ffn_up.weight"));
    assert_non_null(strstr(e.msg, "row 1 "));
    dan_lm_release(&lm);
}

static void test_sensitivity(void **state)
{
    (void)state;
    struct dan_sequences t = text();
    struct dan_lm lm = new_lm("llama", false);
    struct dan_baseline *b = baseline(&lm, &t);
    struct dan_quant_form forms[2];
    struct dan_sensitivity s;
    struct dan_err e = {0};
    size_t floats = 0;
    if (dan_quant_form_find("q8_0", &forms[0], &e) || dan_quant_form_find("q4_0", &forms[1], &e)) fail_msg("%s", e.msg);
    if (dan_sensitivity_new(&lm, b, &(struct dan_sensitivity_opts){.forms = forms, .n_forms = 2}, &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(s.n, 10);                                 /* qkv, o, gate and up, down, twice; the head; the table */
    for (size_t i = 0; i < s.n; i++) {
        floats += s.v[i].bytes_float;
        assert_true(s.v[i].kl[1] > s.v[i].kl[0] && s.v[i].kl[0] > 0);
        assert_true(s.v[i].bytes[1] < s.v[i].bytes[0] && s.v[i].bytes[0] < s.v[i].bytes_float);
    }
    assert_int_equal(floats + s.bytes_rest, dan_store_bytes(lm.store));
    assert_int_equal(s.v[0].n, 3);
    dan_sensitivity_release(&s);
    dan_baseline_free(b);
    dan_lm_release(&lm);
}

static void test_overlap(void **state)
{
    (void)state;
    struct dan_sequences t = text(), first = t, last = t;
    struct dan_err e = {0};
    double share;
    first.n = WINDOWS / 2;
    last.start = start + WINDOWS / 2;
    last.n = WINDOWS / 2;
    assert_int_equal(dan_sequences_overlap(&first, &last, &share, &e), 0);
    assert_true(share == 0);
    assert_int_equal(dan_sequences_overlap(&first, &t, &share, &e), 0);
    assert_true(share == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same), cmocka_unit_test(test_methods), cmocka_unit_test(test_bytes), cmocka_unit_test(test_nan),
                                       cmocka_unit_test(test_sensitivity), cmocka_unit_test(test_overlap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
