/* Quantising: what is replaced and what stays; a saved copy loads back bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "model/quantize.h"

struct count { int replaced, stayed; size_t before, after; double worst; };

static void on_tensor(void *ctx, const struct dan_quantized *q)
{
    struct count *c = ctx;
    assert_true((q->why == NULL) == (q->after != q->before));
    c->replaced += q->why == NULL;
    c->stayed += q->why != NULL;
    c->before += q->bytes_before;
    c->after += q->bytes_after;
    if (q->error > c->worst) c->worst = q->error;
}

static struct dan_lm new_lm(const char *family, int64_t hidden)
{
    struct dan_lm_config cfg = {
        .vocab = 50, .context = 16, .hidden = hidden, .layers = 2, .heads = 2, .tied = true, .bias = true, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 1, &e)) fail_msg("%s", e.msg);
    return lm;
}

static struct count quantize(struct dan_lm *lm)
{
    struct count c = {0};
    struct dan_err e = {0};
    if (dan_lm_quantize(lm, &dan_dtype_q8_0, on_tensor, &c, &e)) fail_msg("%s", e.msg);
    return c;
}

static void test_which(void **state)
{
    (void)state;
    static const struct { const char *family; int64_t hidden; int replaced, stayed; } want[] = {
        {"llama", 64, 15, 5},                  /* table; q k v o gate up down, twice */
        {"gpt", 64, 10, 18},                   /* table, positions; qkv o up down, twice */
        {"gru", 64, 3, 6},                     /* table, W_ih twice; W_hh is read by the loop */
        {"lstm", 64, 3, 6},
        {"gpt", 48, 2, 26},                    /* rows of 48 do not fit, those of ffn_down (192) do */
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct dan_lm lm = new_lm(want[i].family, want[i].hidden);
        int64_t params = dan_lm_n_params(&lm);
        struct count c = quantize(&lm);
        assert_int_equal(c.replaced, want[i].replaced);
        assert_int_equal(c.stayed, want[i].stayed);
        assert_true(c.worst > 0.001 && c.worst < 0.01);
        assert_int_equal(dan_store_bytes(lm.store), c.after);
        assert_int_equal(dan_lm_n_params(&lm), params);
        assert_int_equal(quantize(&lm).replaced, 0);
        dan_lm_release(&lm);
    }
}

static void same_store(const struct dan_store *a, const struct dan_store *b)
{
    assert_int_equal(dan_store_count(a), dan_store_count(b));
    for (size_t i = 0; i < dan_store_count(a); i++) {
        const struct dan_tensor *x = dan_store_at(a, i), *y = dan_store_find(b, dan_store_name(a, i));
        assert_non_null(y);
        assert_ptr_equal(x->dtype, y->dtype);
        assert_true(dan_shape_equal(&x->shape, &y->shape));
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gpt", "lstm", "gru"};
    for (int i = 0; i < 4; i++) {
        char dir[] = "/tmp/danlu-quantize-XXXXXX";
        struct dan_lm lm = new_lm(families[i], 64), back;
        struct dan_err e = {0};
        assert_non_null(mkdtemp(dir));
        quantize(&lm);
        if (dan_lm_save(&lm, dir, &e) || dan_lm_load(&back, dir, false, &e)) fail_msg("%s", e.msg);
        same_store(lm.store, back.store);
        dan_lm_release(&lm);
        dan_lm_release(&back);
        dan_remove_tree(dir, NULL);
    }
}

static void test_format(void **state)
{
    (void)state;
    const struct dan_dtype *t;
    struct dan_err e = {0};
    assert_int_equal(dan_quant_format("q8_0", &t, &e), 0);
    assert_ptr_equal(t, &dan_dtype_q8_0);
    assert_int_equal(dan_quant_format("f32", &t, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "q8_0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_which), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_format)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
