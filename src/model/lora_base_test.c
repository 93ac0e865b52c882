/* The base of an adapter of --qlora: which matrices are quantised, that it is done once, and that merging leaves a model of floats; what else an
 * adapter's folder says: a reward's bias, which head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "model/lora_files.h"
#include "model/quantize.h"
#include "model/score.h"

enum { HIDDEN = 64 };
static char folder[] = "/tmp/danlu-lora-XXXXXX", plain[] = "/tmp/danlu-lora-XXXXXX";

static void make_lm(struct dan_lm *lm)
{
    struct dan_lm_config cfg = {.vocab = 64, .context = 32, .hidden = HIDDEN, .layers = 1, .heads = 2, .bos = -1, .eos = -1, .pad = -1};
    struct dan_err e = {0};
    *lm = (struct dan_lm){0};
    if (dan_lm_init(lm, dan_model_find("llama"), &cfg, 3, &e)) fail_msg("%s", e.msg);
}

/* With a score head of its own; the base has none. */
static void save_adapter(const char *dir, const char *format)
{
    struct dan_lm lm;
    struct dan_err e = {0};
    make_lm(&lm);
    int rc = dan_lora_add(&lm, &(struct dan_lora_opts){.rank = 2, .alpha = 4, .targets = "all-linear", .last_layer = -1}, &e);
    if (!rc) rc = dan_lm_add_score(&lm, &(struct dan_score_opts){.adapter = "default", .std = 1}, &e);
    struct dan_tensor *b = dan_lora_part(&lm, "blk.0.attn_q.weight", "default", "lora_b");
    for (int64_t i = 0; b && i < dan_shape_count(&b->shape); i++) ((float *)b->data)[i] = 0.5F;
    if (!rc) rc = dan_lora_save(&lm, "default", dir, "base", &e);
    if (!rc && format) rc = dan_lora_save_base_format(dir, format, &e);
    if (!rc && format) rc = dan_lora_save_reward_bias(dir, -1.75, &e);
    if (rc) fail_msg("%s", e.msg);
    dan_lm_release(&lm);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || !mkdtemp(plain)) return -1;
    save_adapter(folder, "q8_0");
    save_adapter(plain, NULL);
    return 0;
}

static int teardown(void **state)
{
    struct dan_err e = {0};
    (void)state;
    return dan_remove_tree(folder, &e) | dan_remove_tree(plain, &e);
}

static const char *format_of(const struct dan_lm *lm, const char *name) { return dan_store_find(lm->store, name)->dtype->name; }

static void test_rule(void **state)
{
    struct dan_lm lm;
    struct dan_err e = {0};
    bool done;
    (void)state;
    make_lm(&lm);
    assert_int_equal(dan_lora_quantise_base(&lm, plain, NULL, &done, &e), DAN_OK);
    assert_false(done);
    assert_null(dan_quant_already(&lm));
    assert_int_equal(dan_lora_quantise_base(&lm, folder, NULL, &done, &e), DAN_OK);
    assert_true(done);
    assert_string_equal(format_of(&lm, "blk.0.attn_q.weight"), "q8_0");
    assert_string_equal(format_of(&lm, "token_embd.weight"), "f32");
    assert_string_equal(format_of(&lm, "output.weight"), "f32");
    assert_int_equal(dan_lora_quantise_base(&lm, folder, NULL, &done, &e), DAN_OK);
    assert_false(done);
    dan_lm_release(&lm);
}

static void test_bias(void **state)
{
    struct dan_err e = {0};
    double bias = 3;
    (void)state;
    if (dan_lora_reward_bias(plain, &bias, &e) || dan_lora_reward_bias("/nowhere.gguf", &bias, &e)) fail_msg("%s", e.msg);
    assert_true(bias == 3);
    assert_int_equal(dan_lora_reward_bias(folder, &bias, &e), DAN_OK);
    assert_true(bias == -1.75);
}

/* An adapter of tied embeddings is one of the head, and the file says so, as PEFT does. */
static void test_tied_head(void **state)
{
    struct dan_lm_config cfg = {.vocab = 64, .context = 32, .hidden = HIDDEN, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1, .pad = -1};
    char dir[] = "/tmp/danlu-lora-XXXXXX", path[64], *config = NULL;
    struct dan_lm lm, back;
    struct dan_err e = {0};
    size_t n;
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (int k = 0; k < 2; k++)
        if (dan_lm_init(k ? &back : &lm, dan_model_find("llama"), &cfg, 3, &e)) fail_msg("%s", e.msg);
    if (dan_lora_add(&lm, &(struct dan_lora_opts){.rank = 2, .alpha = 4, .targets = "lm_head,q_proj", .last_layer = -1}, &e)) fail_msg("%s", e.msg);
    if (dan_lora_save(&lm, "default", dir, "base", &e) || dan_lora_load(&back, dir, "default", &e)) fail_msg("%s", e.msg);
    const struct dan_tensor *a = dan_lora_part(&lm, "token_embd.weight", "default", "lora_a"), *b = dan_lora_part(&back, "token_embd.weight", "default", "lora_a");
    assert_true(a && b);
    assert_memory_equal(a->data, b->data, dan_tensor_bytes(a));
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    assert_int_equal(dan_read_file(path, &config, &n, &e), DAN_OK);
    assert_true(strstr(config, "lm_head") && !strstr(config, "embed_tokens"));
    dan_free(config);
    ((float *)dan_lora_part(&back, "token_embd.weight", "default", "lora_b")->data)[3] = 2;       /* of word 1, rank 1 */
    if (dan_lora_merge(&back, "default", 1, &e)) fail_msg("%s", e.msg);
    const struct dan_tensor *table = dan_store_find(back.store, "token_embd.weight"), *head = dan_store_find(back.store, "output.weight");
    assert_false(back.cfg.tied);
    assert_memory_equal(table->data, dan_store_find(lm.store, "token_embd.weight")->data, dan_tensor_bytes(table));
    for (int k = 0; k < HIDDEN; k++) {
        float w = ((const float *)table->data)[HIDDEN + k], x = ((const float *)a->data)[HIDDEN + k];
        assert_true(fabsf(((const float *)head->data)[HIDDEN + k] - (w + 4.f / 2 * 2 * x)) < 1e-6f);
        assert_true(((const float *)head->data)[k] == ((const float *)table->data)[k]);
    }
    dan_lm_release(&lm);
    dan_lm_release(&back);
    assert_int_equal(dan_remove_tree(dir, &e), DAN_OK);
}

/* In the end W' = Q(W) + s B A, and nothing else is there. */
static void test_merged(void **state)
{
    struct dan_lm lm, want;
    struct dan_err e = {0};
    bool done;
    float row[HIDDEN];
    (void)state;
    make_lm(&lm);
    make_lm(&want);
    size_t n = dan_store_count(lm.store);
    if (dan_lora_merge_into(&lm, folder, NULL, &e)) fail_msg("%s", e.msg);
    if (dan_lora_quantise_base(&want, folder, NULL, &done, &e) || dan_lora_load(&want, folder, "default", &e)) fail_msg("%s", e.msg);
    assert_int_equal(lm.n_adapters, 0);
    assert_true(lm.cfg.reward_bias == -1.75);
    assert_int_equal(dan_store_count(lm.store), n + 1);
    assert_memory_equal(dan_lm_score_of(&lm, NULL)->data, dan_lm_score_of(&want, "default")->data, HIDDEN * sizeof *row);
    const struct dan_tensor *q = dan_store_find(want.store, "blk.0.attn_q.weight"), *a = dan_lora_part(&want, "blk.0.attn_q.weight", "default", "lora_a");
    const float *got = dan_row(dan_store_find(lm.store, "blk.0.attn_q.weight"), 5), *a0 = dan_row(a, 0), *a1 = dan_row(a, 1);
    q->dtype->to_f32(dan_row(q, 5), row, HIDDEN);
    for (int k = 0; k < HIDDEN; k++) assert_float_equal(got[k], row[k] + 2 * 0.5F * (a0[k] + a1[k]), 1e-6);
    dan_lm_release(&lm);
    dan_lm_release(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rule), cmocka_unit_test(test_bias), cmocka_unit_test(test_tied_head), cmocka_unit_test(test_merged)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
