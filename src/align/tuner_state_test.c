/* A tuner's state, taken after some steps and put into another one, goes on to the same bits, whatever is fused in either; two tuners fit one store. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "align/tuner_state.h"
#include "base/str.h"
#include "io/safetensors.h"
#include "model/lora.h"

enum { VOCAB = 37, ROWS = 32, BEFORE = 3, AFTER = 4 };

struct side { struct dan_lm lm; struct dan_tuner *tuner; };

static void ok(int rc, const struct dan_err *e)
{
    if (rc) fail_msg("%s", e->msg);
}

static void start(struct side *s, bool adapter, const char *fusion)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = 32, .layers = 2, .heads = 2, .tied = true, .bos = -1, .eos = -1};
    struct dan_lora_opts lo = {.rank = 4, .alpha = 8, .targets = "all-linear", .last_layer = -1, .seed = 5};
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1, .ema = 0.9, .pass = {.fusion = fusion}};
    struct dan_err e = {0};
    ok(dan_lm_init(&s->lm, dan_model_find("llama"), &cfg, 3, &e), &e);
    if (adapter) ok(dan_lora_add(&s->lm, &lo, &e), &e), s->lm.adapter[0].trained = true;
    ok(dan_tuner_new(&s->lm, &o, NULL, &s->tuner, &e), &e);
}

static void release(struct side *s)
{
    dan_tuner_free(s->tuner);
    dan_lm_release(&s->lm);
}

static void steps(struct side *s, int from, int n)
{
    float weight[12];
    struct dan_packed p;
    struct dan_err e = {0};
    ok(dan_packed_init(&p, ROWS, &e), &e);
    for (int k = from; k < from + n; k++) {
        int32_t ids[12];
        double norm;
        for (int i = 0; i < 12; i++) ids[i] = (i * 7 + k * 5) % VOCAB, weight[i] = 0.1f;
        dan_packed_clear(&p);
        dan_packed_add(&p, ids, 12, weight);
        ok(dan_tuner_add(s->tuner, &p, NULL, &e), &e);
        ok(dan_tuner_step(s->tuner, 1e-2, &norm, &e), &e);
    }
    dan_packed_release(&p);
}

static struct dan_store *gathered(struct side *s)
{
    struct dan_store *out;
    struct dan_err e = {0};
    ok(dan_store_new(&out, &e), &e);
    ok(dan_tuner_gather(s->tuner, &s->lm, "", out, &e), &e);
    return out;
}

static void near_to(const char *name, const struct dan_tensor *a, const struct dan_tensor *b)
{
    const float *x = a->data, *y = b->data;
    assert_int_equal(dan_shape_count(&a->shape), dan_shape_count(&b->shape));
    for (int64_t k = 0; k < dan_shape_count(&b->shape); k++)
        if (!(fabsf(x[k] - y[k]) <= 1e-4f)) fail_msg("%s[%lld] is %g, not %g", name, (long long)k, (double)x[k], (double)y[k]);
}

static void go_on(bool adapter, const char *fusion, bool same_bits)
{
    struct side whole, first, second;
    struct dan_err e = {0};
    start(&whole, adapter, NULL);
    start(&first, adapter, NULL);
    start(&second, adapter, fusion);
    steps(&whole, 0, BEFORE + AFTER);
    steps(&first, 0, BEFORE);
    struct dan_store *from = gathered(&first), *into = gathered(&second), *want = gathered(&whole);
    ok(dan_store_restore(into, from, &e), &e);
    dan_tuner_set_steps(second.tuner, BEFORE);
    steps(&second, BEFORE, AFTER);
    assert_int_equal(dan_store_count(want), dan_store_count(into));
    int weights = 0;
    for (size_t i = 0; i < dan_store_count(want); i++) {
        const char *name = dan_store_name(want, i);
        const struct dan_tensor *a = dan_store_find(into, name), *b = dan_store_at(want, i);
        assert_non_null(a);
        assert_null(strchr(name, '+'));
        if (same_bits) assert_memory_equal(a->data, b->data, dan_tensor_bytes(b));
        else near_to(name, a, b);
        weights += dan_str_starts(name, "w:");
    }
    assert_int_equal(dan_store_count(want), 4 * weights);          /* w, m, v, ema */
    dan_store_free(from);
    dan_store_free(into);
    dan_store_free(want);
    release(&whole);
    release(&first);
    release(&second);
}

static void test_all_weights(void **state) { (void)state; go_on(false, NULL, true); }
static void test_adapter(void **state) { (void)state; go_on(true, NULL, true); }
static void test_other_fusion(void **state) { (void)state; go_on(false, "off", false); }

static void test_two_tuners(void **state)
{
    (void)state;
    struct side a, b;
    struct dan_store *s;
    struct dan_err e = {0};
    start(&a, false, NULL);
    start(&b, true, NULL);
    ok(dan_store_new(&s, &e), &e);
    ok(dan_tuner_gather(a.tuner, &a.lm, "policy/", s, &e), &e);
    size_t n = dan_store_count(s);
    ok(dan_tuner_gather(b.tuner, &b.lm, "critic/", s, &e), &e);
    assert_true(dan_store_count(s) > n);
    assert_non_null(dan_store_find(s, "policy/w:token_embd.weight"));
    assert_null(dan_store_find(s, "critic/w:token_embd.weight"));
    dan_store_free(s);
    release(&a);
    release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_weights), cmocka_unit_test(test_adapter), cmocka_unit_test(test_other_fusion), cmocka_unit_test(test_two_tuners)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
