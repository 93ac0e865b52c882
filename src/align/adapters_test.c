/* Kinds of adapters under the tuner: each changes no bit at first; DoRA's gradients with constant norms; dropout and noise are of the seed, and of
 * training alone; LoRA+. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "align/test_tuner.h"
#include "model/quantize.h"

/* A fresh adapter of each kind, over float and each quantised base: the bits of the base.  With dropout and noise too, where nothing learns. */
static void test_no_op(void **state)
{
    (void)state;
    static const char *const formats[] = {NULL, "q8_0", "nf4", "q4_0"}, *const families[] = {"llama", "gpt"};
    for (int f = 0; f < 8; f++)
        for (int dora = 0; dora < 2; dora++) {
            float before[ROWS], fresh[ROWS];
            struct dan_err e = {0};
            struct dan_lm lm = new_lm(families[f % 2]), plain = new_lm(families[f % 2]);
            const struct dan_dtype *to = formats[f / 2] ? dan_dtype_find(formats[f / 2]) : NULL;
            if (to && (dan_lm_quantize(&lm, to, NULL, NULL, &e) || dan_lm_quantize(&plain, to, NULL, NULL, &e))) fail_msg("%s", e.msg);
            add(&lm, dora, false);
            struct dan_tuner *t = tuner_of(&lm, (struct dan_tuner_opts){.lora_dropout = 0.3, .neftune = 5, .lora_plus = 16, .seed = 7});
            int64_t n = score(t, false, fresh);
            dan_tuner_free(t);
            score_lm(&plain, before);
            assert_memory_equal(before, fresh, (size_t)n * sizeof *before);
            dan_lm_release(&lm);
            dan_lm_release(&plain);
        }
}

/* Differences move A, B and m while the norms stay, as the gradient sees it; over float and nf4. */
static void test_dora_gradient(void **state)
{
    (void)state;
    for (int quantised = 0; quantised < 2; quantised++) {
        struct dan_lm lm = new_lm("gpt");
        struct dan_err e = {0};
        if (quantised && dan_lm_quantize(&lm, dan_dtype_find("nf4"), NULL, NULL, &e)) fail_msg("%s", e.msg);
        add(&lm, true, true);
        struct dan_tuner *t = tuner_of(&lm, (struct dan_tuner_opts){.ref = quantised});
        struct dan_packed p = packed();
        assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
        int checked[3] = {0};
        for (size_t i = 0; i < dan_store_count(lm.store); i++) {
            const char *name = dan_store_name(lm.store, i);
            char sum[128];
            snprintf(sum, sizeof sum, "sum:%s", name);
            const struct dan_tensor *g = dan_store_find(dan_tuner_state(t), sum);
            int kind = dan_str_ends(name, ".lora_a") ? 0 : dan_str_ends(name, ".lora_b") ? 1 : 2;
            if (!g || !strchr(name, '@') || strchr(name, '+') || checked[kind] > 3) continue;
            float *w = dan_store_at(lm.store, i)->data, kept = w[3];
            const float h = 1e-2f;
            w[3] = kept + h;
            double up = total(t, &p);
            w[3] = kept - h;
            double down = total(t, &p), slope = (up - down) / (2 * (double)h), got = (double)((const float *)g->data)[3];
            w[3] = kept;
            if (fabs(got - slope) > 2e-3 * fabs(slope) + 3e-4) fail_msg("%s: %g, slope %g", name, got, slope);
            checked[kind]++;
        }
        assert_true(checked[0] >= 2 && checked[1] >= 3 && checked[2] >= 3);
        dan_packed_release(&p);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
}

/* The gradient that passes through a frozen base in blocks of 64 and 256: kernels against the reference. */
static void test_blocks(void **state)
{
    (void)state;
    static const char *const formats[] = {"nf4", "nf4_dq"};
    for (int f = 0; f < 2; f++) {
        struct dan_lm lm[2];
        struct dan_tuner *t[2];
        struct dan_err e = {0};
        struct dan_packed p = packed();
        double top = 0, worst = 0;
        for (int k = 0; k < 2; k++) {
            struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = 256, .layers = 1, .heads = 2, .tied = true, .init_std = 0.05, .bos = -1, .eos = -1};
            if (dan_lm_init(&lm[k], dan_model_find("llama"), &cfg, 3, &e) || dan_lm_quantize(&lm[k], dan_dtype_find(formats[f]), NULL, NULL, &e)) fail_msg("%s", e.msg);
            assert_true(dan_store_find(lm[k].store, "blk.0.attn_q.weight")->dtype == dan_dtype_find(formats[f]));
            add(&lm[k], false, true);
            t[k] = tuner_of(&lm[k], (struct dan_tuner_opts){.ref = k});
            assert_int_equal(dan_tuner_add(t[k], &p, NULL, &e), DAN_OK);
        }
        for (size_t i = 0; i < dan_store_count(dan_tuner_state(t[0])); i++) {
            const struct dan_tensor *x = dan_store_at(dan_tuner_state(t[0]), i), *y = dan_store_find(dan_tuner_state(t[1]), dan_store_name(dan_tuner_state(t[0]), i));
            if (!dan_str_starts(dan_store_name(dan_tuner_state(t[0]), i), "sum:")) continue;
            for (int64_t k = 0; k < dan_shape_count(&x->shape); k++) {
                top = fmax(top, fabs((double)((const float *)y->data)[k]));
                worst = fmax(worst, fabs((double)((const float *)x->data)[k] - (double)((const float *)y->data)[k]));
            }
        }
        if (!(worst < 1e-4 * top)) fail_msg("%s: %g of %g apart", formats[f], worst, top);
        dan_packed_release(&p);
        for (int k = 0; k < 2; k++) {
            dan_tuner_free(t[k]);
            dan_lm_release(&lm[k]);
        }
    }
}

/* A step sets the norms anew, to those of a fresh refresh; the loss falls. */
static void test_dora_steps(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama");
    struct dan_err e = {0};
    double norm;
    add(&lm, true, false);
    struct dan_tuner *t = tuner_of(&lm, (struct dan_tuner_opts){0});
    struct dan_packed p = packed();
    double first = total(t, &p);
    for (int s = 0; s < 15; s++) {
        assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
        assert_int_equal(dan_tuner_step(t, 1e-2, &norm, &e), DAN_OK);
    }
    assert_true(total(t, &p) < 0.8 * first);
    const struct dan_tensor *n = dan_lora_part(&lm, "blk.1.ffn_up.weight", "default", "dora_norm");
    float kept[8];
    memcpy(kept, n->data, sizeof kept);
    if (dan_lora_refresh(&lm, NULL, NULL, &e)) fail_msg("%s", e.msg);
    assert_memory_equal(kept, n->data, sizeof kept);
    dan_packed_release(&p);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

/* Dropout and noise: of the seed, of the step, in training only. */
static void test_noise(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {     /* dropout, noise, dropout under DoRA */
        float nll[5][ROWS];
        int64_t n = 0;
        for (int k = 0; k < 4; k++) {
            struct dan_lm lm = new_lm("llama");
            struct dan_tuner_opts o = {.seed = k == 2 ? 8 : 7};
            add(&lm, kind == 2, true);
            if (k < 3 && kind != 1) o.lora_dropout = 0.3;
            if (k < 3 && kind == 1) o.neftune = 5;
            struct dan_tuner *t = tuner_of(&lm, o);
            n = score(t, true, nll[k]);
            if (k == 0) score(t, false, nll[4]);
            dan_tuner_free(t);
            dan_lm_release(&lm);
        }
        assert_memory_equal(nll[0], nll[1], (size_t)n * sizeof(float));
        assert_memory_not_equal(nll[0], nll[2], (size_t)n * sizeof(float));
        assert_memory_not_equal(nll[0], nll[3], (size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) assert_true(fabsf(nll[3][i] - nll[4][i]) < 1e-4f);
    }
}

/* Adam's first step moves every element by its rate: B's by the ratio. */
static void test_lora_plus(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama");
    struct dan_err e = {0};
    double norm;
    add(&lm, false, true);
    struct dan_tuner *t = tuner_of(&lm, (struct dan_tuner_opts){.lora_plus = 16});
    struct dan_packed p = packed();
    const struct dan_tensor *part[2] = {dan_lora_part(&lm, "blk.1.attn_q.weight", "default", "lora_a"), dan_lora_part(&lm, "blk.1.attn_q.weight", "default", "lora_b")};
    float before[2] = {((float *)part[0]->data)[3], ((float *)part[1]->data)[3]};
    assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
    assert_int_equal(dan_tuner_step(t, 1e-3, &norm, &e), DAN_OK);
    double moved[2];
    for (int k = 0; k < 2; k++) moved[k] = fabs((double)((float *)part[k]->data)[3] - (double)before[k]);
    assert_true(fabs(moved[1] / moved[0] - 16) < 0.01);
    dan_packed_release(&p);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_op), cmocka_unit_test(test_dora_gradient), cmocka_unit_test(test_blocks), cmocka_unit_test(test_dora_steps), cmocka_unit_test(test_noise),
                                       cmocka_unit_test(test_lora_plus)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
