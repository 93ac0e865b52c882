/* lora/, dora/: adapters of PEFT's over the model of llama/: logits, loss and the gradient of every tensor; written by danlu, the same tensors.  dora/ has
 * magnitudes, and matrices with ranks and alphas of their own, whose B takes the quotient of the scales here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/tuner.h"
#include "base/file.h"
#include "base/mem.h"
#include "infer/session.h"
#include "io/safetensors.h"
#include "model/lora_files.h"

static const char here[] = "tests/golden";
static struct dan_store *values, *file;        /* what PEFT computes; the adapter as it lies in its folder */
static struct dan_lm lm;
static const char *kind;

static int setup(void **state)
{
    struct dan_err e = {0};
    char path[4][200];
    (void)state;
    snprintf(path[0], sizeof path[0], "%s/llama", here);
    snprintf(path[1], sizeof path[1], "%s/%s/golden.safetensors", here, kind);
    snprintf(path[2], sizeof path[2], "%s/%s/adapter_model.safetensors", here, kind);
    snprintf(path[3], sizeof path[3], "%s/%s", here, kind);
    if (dan_lm_load(&lm, path[0], true, &e) || dan_safetensors_open(path[1], &values, &e) || dan_safetensors_open(path[2], &file, &e)) return -1;
    return dan_lora_load(&lm, path[3], "default", &e) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    dan_lm_release(&lm);
    dan_store_free(values);
    dan_store_free(file);
    return 0;
}

static void near_to(const char *what, const float *got, const float *want, int64_t n, double tolerance)
{
    double top = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        top = fmax(top, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    if (!(worst <= tolerance * top)) fail_msg("%s: difference %.3g of %.3g", what, worst, top);
}

static void test_logits(void **state)
{
    (void)state;
    const struct dan_tensor *tokens = dan_store_find(values, "tokens"), *want = dan_store_find(values, "logits");
    int64_t n = tokens->shape.d[0], v = want->shape.d[1];
    struct dan_session_opts o = {.slots = 1, .max_select = n};
    struct dan_session *s;
    struct dan_err e = {0};
    float *got = dan_calloc((size_t)(n * v), sizeof *got);
    assert_non_null(got);
    if (dan_session_new(&lm, &o, &s, &e)) fail_msg("%s", e.msg);
    struct dan_feed f = {.slot = 0, .tokens = tokens->data, .n = n, .n_logits = n, .logits = got};
    if (dan_session_feed(s, &f, 1, &e)) fail_msg("%s", e.msg);
    near_to("logits", got, want->data, n * v, 1e-5);
    dan_session_free(s);
    dan_free(got);
}

/* "blk.0.attn_q.weight@default.lora_a" -> "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" */
static const char *peft_name(const char *ours, char out[300])
{
    static const char *const ends[][2] = {{"lora_a", "lora_A.weight"}, {"lora_b", "lora_B.weight"}, {"dora_m", "lora_magnitude_vector"}};
    char base[128], hf[200];
    const char *of;
    size_t of_n, n = dan_lora_base(ours, &of, &of_n);
    bool turned;
    snprintf(base, sizeof base, "%.*s", (int)n, ours);
    assert_true(dan_lm_hf_name(lm.model, base, hf, sizeof hf, &turned));
    hf[strlen(hf) - strlen(".weight")] = 0;
    for (int k = 0; k < 3; k++)
        if (!strcmp(of + of_n + 1, ends[k][0])) snprintf(out, 300, "base_model.model.%s.%s", hf, ends[k][1]);
    return out;
}

/* Ours = the file's times this. */
static double factor_of(const char *ours)
{
    char name[300];
    return (double)*(const float *)dan_store_find(lm.store, ours)->data / (double)*(const float *)dan_store_find(file, peft_name(ours, name))->data;
}

static void check_gradient(struct dan_tuner *t, const char *ours, int *checked)
{
    char joined[256], name[300], grad[310];
    float scaled[4096];
    snprintf(joined, sizeof joined, "sum:%s", ours);
    snprintf(grad, sizeof grad, "grad.%s", peft_name(ours, name));
    const struct dan_tensor *want = dan_store_find(values, grad), *got = dan_store_find(dan_tuner_state(t), joined);
    assert_non_null(want);
    if (!got) return;                          /* joined with that of a product of the same input */
    int64_t n = dan_shape_count(&want->shape);
    assert_true(n <= 4096);
    for (int64_t k = 0; k < n; k++) scaled[k] = (float)((double)((const float *)got->data)[k] * factor_of(ours));
    near_to(ours, scaled, want->data, n, 1e-4);
    (*checked)++;
}

static void test_gradients(void **state)
{
    (void)state;
    const struct dan_tensor *tokens = dan_store_find(values, "tokens");
    int64_t n = tokens->shape.d[0];
    struct dan_tuner_opts o = {.max_rows = n, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    struct dan_packed p;
    struct dan_tuner *t;
    struct dan_err e = {0};
    float weight[64], nll[64], loss = 0;
    int checked = 0;
    lm.adapter[0].trained = true;
    for (int64_t i = 0; i < n; i++) weight[i] = 1 / (float)(n - 1);
    if (dan_tuner_new(&lm, &o, NULL, &t, &e) || dan_packed_init(&p, n, &e)) fail_msg("%s", e.msg);
    dan_packed_add(&p, tokens->data, n, weight);
    if (dan_tuner_add(t, &p, nll, &e)) fail_msg("%s", e.msg);
    for (int64_t i = 0; i + 1 < n; i++) loss += nll[i] / (float)(n - 1);
    near_to("loss", &loss, dan_store_find(values, "loss")->data, 1, 1e-5);
    for (size_t i = 0; i < dan_store_count(lm.store); i++) {
        const char *name = dan_store_name(lm.store, i);
        if (dan_lora_owns(name, "default") && !strstr(name, ".dora_norm")) check_gradient(t, name, &checked);
    }
    assert_true(checked >= 8);
    dan_packed_release(&p);
    dan_tuner_free(t);
    lm.adapter[0].trained = false;
}

static void same_tensors(const struct dan_store *a)
{
    assert_int_equal(dan_store_count(a), dan_store_count(file));
    for (size_t i = 0; i < dan_store_count(file); i++) {
        const struct dan_tensor *x = dan_store_find(a, dan_store_name(file, i)), *y = dan_store_at(file, i);
        assert_non_null(x);
        assert_true(dan_shape_equal(&x->shape, &y->shape));
        if (strcmp(kind, "dora") || !strstr(dan_store_name(file, i), "lora_B")) assert_memory_equal(x->data, y->data, dan_tensor_bytes(y));
    }
}

static void test_written(void **state)
{
    (void)state;
    const char *out = getenv("DANLU_LORA_OUT");
    char dir[] = "/tmp/danlu-lora-XXXXXX", folder[300], path[400];
    struct dan_store *a;
    struct dan_err e = {0};
    if (!out) out = mkdtemp(dir);
    assert_non_null(out);
    snprintf(folder, sizeof folder, "%s/%s", out, kind);
    if (dan_lora_save(&lm, "default", folder, "llama", &e)) fail_msg("%s", e.msg);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    if (dan_safetensors_open(path, &a, &e)) fail_msg("%s", e.msg);
    same_tensors(a);
    dan_store_free(a);
    if (!getenv("DANLU_LORA_OUT")) dan_remove_tree(dir, &e);
}

static void refused(const char *config, const char *error)
{
    char dir[] = "/tmp/danlu-lora-XXXXXX", path[300];
    struct dan_err e = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    assert_int_equal(dan_write_file(path, config, strlen(config), &e), DAN_OK);
    int before = lm.n_adapters;
    assert_int_not_equal(dan_lora_load(&lm, dir, "other", &e), DAN_OK);
    if (!strstr(e.msg, error)) fail_msg("'%s', expected '%s'", e.msg, error);
    assert_int_equal(lm.n_adapters, before);
    dan_remove_tree(dir, &e);
}

static void test_refused(void **state)
{
    (void)state;
    refused("{\"peft_type\":\"IA3\"}", "peft_type 'IA3': only LORA is read");
    refused("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"bias\":\"all\"}", "sets 'bias'");
    refused("{\"peft_type\":\"LORA\",\"lora_alpha\":8}", "has no rank");
    refused("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8}", "adapter_model.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits), cmocka_unit_test(test_written), cmocka_unit_test(test_refused), cmocka_unit_test(test_gradients)};
    int failed = 0;
    static const char *const kinds[] = {"lora", "dora"};
    for (int k = 0; k < 2; k++) {
        kind = kinds[k];
        failed += cmocka_run_group_tests_name(kind, tests, setup, teardown);
    }
    return failed;
}
