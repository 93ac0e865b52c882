/* Estimates against known models and against the ops' own arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "train/estimate.h"

static struct dan_estimate of(const char *family, struct dan_lm_config c, int64_t context)
{
    struct dan_train_opts o = {.batch = 1, .accumulate = 1, .context = context, .optim = dan_optim_find("adamw")};
    struct dan_estimate x;
    struct dan_err e = {0};
    if (dan_estimate(dan_model_find(family), &c, &o, &x, &e)) fail_msg("%s", e.msg);
    return x;
}

/* GPT-2 small and LLaMA 7B have 124,439,808 and 6,738,415,616 parameters. */
static void test_known(void **state)
{
    (void)state;
    struct dan_estimate x =
        of("gpt",
           (struct dan_lm_config){.vocab = 50257, .context = 1024, .hidden = 768, .layers = 12, .heads = 12, .tied = true, .bias = true},
           1024);
    assert_int_equal(x.total, 124439808);
    assert_int_equal(x.params[DAN_PART_EMBEDDING], 50257 * 768 + 1024 * 768);
    assert_int_equal(x.params[DAN_PART_ATTENTION], 12 * (4 * 768 * 768 + 4 * 768));
    assert_int_equal(x.params[DAN_PART_FFN], 12 * (8 * 768 * 768 + 5 * 768));
    assert_int_equal(x.params[DAN_PART_NORM], 25 * 2 * 768);
    assert_int_equal(x.state_bytes, 12 * 2 * 768 * 4);
    assert_int_equal(x.memory.weights, 4 * x.total);
    assert_int_equal(x.memory.optimiser, 8 * x.total);
    /* 2 flops a weight that is multiplied, and attention: 4 x hidden x keys seen, in each layer */
    double products = 2.0 * (12.0 * 12 * 768 * 768 + 50257.0 * 768), attention = 12 * 4.0 * 768 * 1025 / 2;
    assert_true(fabs(x.forward_flops / (products + attention) - 1) < 0.01);
    assert_true(x.train_flops > 2.9 * x.forward_flops && x.train_flops < 3.2 * x.forward_flops);
    x = of("llama", (struct dan_lm_config){.vocab = 32000, .context = 2048, .hidden = 4096, .layers = 32, .heads = 32, .ffn = 11008}, 64);
    assert_int_equal(x.total, 6738415616);
    assert_int_equal(x.params[DAN_PART_HEAD], 32000 * 4096);
}

static void test_recurrent(void **state)
{
    (void)state;
    struct dan_estimate x = of("lstm", (struct dan_lm_config){.vocab = 100, .context = 32, .hidden = 64, .layers = 2, .tied = true}, 32);
    assert_int_equal(x.params[DAN_PART_RECURRENT], 2 * (2 * 4 * 64 * 64 + 2 * 4 * 64));
    assert_int_equal(x.state_bytes, 2 * 2 * 64 * 4);
    assert_true(x.forward_flops > 2.0 * 4 * 2 * 64 * 64 * 2);
    assert_true(x.train_flops > 2.5 * x.forward_flops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known), cmocka_unit_test(test_recurrent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
