/* Adapters and the tuner on a tiny model: a fresh adapter changes nothing, a merged one is the same function, gradients go to it alone and
 * are the slopes, packing changes no bit, a step lowers the loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "align/test_loss.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/lora.h"
#include "model/quantize.h"

enum { VOCAB = 37 };
static const int32_t seq[3][12] = {{1, 5, 9, 2, 30, 7, 8, 1, 3, 36, 4, 2}, {4, 4, 17, 20, 6, 2}, {9, 8, 7, 6, 5, 4, 3, 2, 1}};
static const int64_t seq_n[3] = {12, 6, 9};

static struct dan_lm new_lm(const char *family)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = 32, .layers = 2, .heads = 2, .tied = true, .bias = !strcmp(family, "gpt"), .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 3, &e)) fail_msg("%s", e.msg);
    return lm;
}

static struct dan_tuner *new_tuner(struct dan_lm *lm, bool ref)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1, .ref = ref};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static struct dan_packed packed(const int *which, int n, float weight)
{
    struct dan_packed p;
    struct dan_err e = {0};
    float w[12];
    for (int i = 0; i < 12; i++) w[i] = i > 1 ? weight : 0;
    assert_int_equal(dan_packed_init(&p, ROWS, &e), DAN_OK);
    for (int i = 0; i < n; i++) dan_packed_add(&p, seq[which[i]], seq_n[which[i]], w);
    return p;
}

static const int all[3] = {0, 1, 2};

static int64_t score(struct dan_lm *lm, float *nll)
{
    struct dan_tuner *t = new_tuner(lm, false);
    struct dan_packed p = packed(all, 3, 1);
    struct dan_err e = {0};
    if (dan_tuner_score(t, &p, false, nll, &e)) fail_msg("%s", e.msg);
    int64_t rows = p.batch.rows;
    dan_packed_release(&p);
    dan_tuner_free(t);
    return rows;
}

static void add_adapter(struct dan_lm *lm, const char *targets, int64_t rank)
{
    struct dan_lora_opts o = {.rank = rank, .alpha = 16, .targets = targets, .last_layer = -1, .seed = 5};
    struct dan_err e = {0};
    if (dan_lora_add(lm, &o, &e)) fail_msg("%s", e.msg);
}

static void fill_b(struct dan_lm *lm)
{
    struct dan_rng r = {.seed = 8};
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        struct dan_tensor *t = dan_store_at(lm->store, i);
        if (!dan_str_ends(dan_store_name(lm->store, i), ".lora_b")) continue;
        for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) ((float *)t->data)[k] = (float)(0.05 * dan_rng_normal(&r));
    }
}

static void test_adapter(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gpt"};
    for (int f = 0; f < 2; f++) {
        float before[ROWS], fresh[ROWS], with[ROWS], merged[ROWS], off[ROWS], unmerged[ROWS];
        struct dan_err e = {0};
        struct dan_lm lm = new_lm(families[f]);
        int64_t rows = score(&lm, before), params = dan_lm_n_params(&lm);
        add_adapter(&lm, "all-linear", 4);
        assert_int_equal(dan_lm_n_params(&lm), params);
        assert_true(dan_lora_params(&lm, "default") > 0);
        score(&lm, fresh);
        assert_memory_equal(before, fresh, (size_t)rows * sizeof *before);
        fill_b(&lm);
        score(&lm, with);
        lm.adapter[0].on = false;
        score(&lm, off);
        assert_memory_equal(before, off, (size_t)rows * sizeof *before);
        assert_int_equal(dan_lora_merge(&lm, "default", 1, &e), DAN_OK);
        score(&lm, merged);
        assert_int_equal(dan_lora_merge(&lm, "default", -1, &e), DAN_OK);
        lm.adapter[0].on = false;
        score(&lm, unmerged);
        double apart = 0;
        for (int64_t i = 0; i < rows; i++) {
            assert_true(fabsf(with[i] - merged[i]) <= 1e-5f * fabsf(with[i]));
            assert_true(fabsf(before[i] - unmerged[i]) <= 1e-5f * fabsf(before[i]));
            apart += fabs((double)with[i] - (double)before[i]);
        }
        assert_true(apart > 0.1);
        dan_lm_release(&lm);
    }
}

/* Gradients of an adapter over a float and over a quantised base against differences. */
static void test_gradient(void **state)
{
    (void)state;
    for (int quantised = 0; quantised < 2; quantised++) {
        struct dan_lm lm = new_lm("llama");
        struct dan_err e = {0};
        if (quantised && dan_lm_quantize(&lm, &dan_dtype_q8_0, NULL, NULL, &e)) fail_msg("%s", e.msg);
        add_adapter(&lm, "attn_q,v_proj,mlp", 2);
        fill_b(&lm);
        lm.adapter[0].trained = true;
        struct dan_tuner *t = new_tuner(&lm, quantised);     /* the reference: kernels round the activations of quantised products */
        struct dan_packed p = packed(all, 3, 0.25f);
        assert_int_equal(dan_tuner_params(t), dan_lora_params(&lm, "default"));
        assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
        int checked = 0;
        for (size_t i = 0; i < dan_store_count(lm.store) && checked < 12; i++) {
            const char *name = dan_store_name(lm.store, i);
            char sum[128];
            snprintf(sum, sizeof sum, "sum:%s", name);
            const struct dan_tensor *g = dan_store_find(dan_tuner_state(t), sum);
            if (!g || !strchr(name, '@')) continue;
            float *w = dan_store_at(lm.store, i)->data, kept = w[3];
            const float h = 1e-2f;
            w[3] = kept + h;
            double up = total(t, &p);
            w[3] = kept - h;
            double down = total(t, &p), slope = (up - down) / (2 * (double)h), got = (double)((const float *)g->data)[3];
            w[3] = kept;
            if (fabs(got - slope) > 2e-3 * fabs(slope) + 2e-4) fail_msg("%s: %g, slope %g", name, got, slope);
            checked++;
        }
        assert_true(checked >= 4);
        dan_packed_release(&p);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
}

static void test_packing(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama");
    struct dan_tuner *t = new_tuner(&lm, false);
    struct dan_err e = {0};
    float together[ROWS], alone[ROWS];
    struct dan_packed p = packed(all, 3, 1);
    assert_int_equal(dan_tuner_score(t, &p, true, together, &e), DAN_OK);
    dan_packed_release(&p);
    int64_t at = 0;
    for (int i = 0; i < 3; i++) {
        p = packed(&all[i], 1, 1);
        assert_int_equal(dan_tuner_score(t, &p, true, alone, &e), DAN_OK);
        assert_memory_equal(alone, together + at, (size_t)p.batch.rows * sizeof *alone);
        at += p.batch.rows;
        dan_packed_release(&p);
    }
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

/* A step in three packs is the step in one but for the order of sums; the loss falls; frozen weights stay. */
static void test_steps(void **state)
{
    (void)state;
    double last[2] = {0};
    for (int parts = 0; parts < 2; parts++) {
        struct dan_lm lm = new_lm("llama");
        struct dan_err e = {0};
        add_adapter(&lm, "all-linear", 4);
        lm.adapter[0].trained = true;
        struct dan_tensor *frozen = dan_store_find(lm.store, "token_embd.weight");
        float kept = ((float *)frozen->data)[5];
        struct dan_tuner *t = new_tuner(&lm, false);
        struct dan_packed whole = packed(all, 3, 1.0f / 21);
        double first = total(t, &whole), norm;
        for (int s = 0; s < 20; s++) {
            for (int i = 0; i < (parts ? 3 : 1); i++) {
                struct dan_packed p = parts ? packed(&all[i], 1, 1.0f / 21) : packed(all, 3, 1.0f / 21);
                assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
                dan_packed_release(&p);
            }
            assert_int_equal(dan_tuner_step(t, 1e-2, &norm, &e), DAN_OK);
            assert_true(norm > 0);
        }
        last[parts] = total(t, &whole);
        assert_true(last[parts] < 0.7 * first);
        assert_true(((float *)frozen->data)[5] == kept);
        assert_int_equal(dan_tuner_steps(t), 20);
        dan_packed_release(&whole);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
    assert_true(fabs(last[0] - last[1]) < 1e-3 * last[0]);
}

static void test_plan(void **state)
{
    (void)state;
    static const int64_t length[] = {5, 2, 3, 1, 4, 4};
    int64_t bin[6], room[6] = {0};
    int64_t n = dan_packed_plan(length, 6, 5, bin);
    assert_int_equal(n, 4);                    /* 5; 4 1; 4; 3 2 */
    for (int i = 0; i < 6; i++) room[bin[i]] += length[i];
    for (int i = 0; i < 4; i++) assert_true(room[i] <= 5 && room[i] > 0);
    assert_int_equal(bin[2], bin[1]);
}

static void test_refused(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama");
    static const struct { struct dan_lora_opts o; const char *error; } bad[] = {
        {{.rank = 0, .targets = "attn", .last_layer = -1}, "rank 0"},
        {{.rank = 999, .alpha = 1, .targets = "attn", .last_layer = -1}, "rank 999 is more than"},
        {{.rank = 2, .alpha = 1, .targets = "attn_q,owl", .last_layer = -1}, "no matrix of this model is a target 'owl'; use all-linear, attn, mlp, or some of: attn_q"},
        {{.rank = 2, .alpha = 1, .targets = "attn", .first_layer = 7, .last_layer = 9}, "layers 7 to 9 hold no target"},
        {{.name = "a.b", .rank = 2, .alpha = 1, .targets = "attn", .last_layer = -1}, "cannot name an adapter"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_err e = {0};
        assert_int_not_equal(dan_lora_add(&lm, &bad[i].o, &e), DAN_OK);
        if (!strstr(e.msg, bad[i].error)) fail_msg("'%s', expected '%s'", e.msg, bad[i].error);
        assert_int_equal(lm.n_adapters, 0);
    }
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adapter), cmocka_unit_test(test_gradient), cmocka_unit_test(test_packing),
                                       cmocka_unit_test(test_steps), cmocka_unit_test(test_plan), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
