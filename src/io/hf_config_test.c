#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/hf_config.h"

struct config { int64_t vocab, hidden, bos, eos; double rope, eps; bool tied; };
#define AT(f) (uint16_t)offsetof(struct config, f)

static const struct dan_field fields[] = {
    {"vocab_size", 'i', AT(vocab), {.i = INT64_MIN}},
    {"hidden_size|n_embd", 'i', AT(hidden), {.i = INT64_MIN}},
    {"bos_token_id", 'i', AT(bos), {.i = -1}},
    {"eos_token_id", 'i', AT(eos), {.i = -1}},
    {"rope_theta", 'f', AT(rope), {.f = 10000}},
    {"norm.eps", 'f', AT(eps), {.f = 1e-5}},
    {"tie_word_embeddings", 'b', AT(tied), {.i = 1}},
    {0},
};

static char dir[] = "/tmp/danlu-config-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

static void put(const char *name, const char *text)
{
    char p[300];
    snprintf(p, sizeof p, "%s/%s", dir, name);
    assert_int_equal(dan_write_file(p, text, strlen(text), NULL), DAN_OK);
}

static int load(const char *text, struct config *c, struct dan_err *e)
{
    put("config.json", text);
    return dan_hf_config_load(dir, "llama", fields, c, e);
}

static void test_values(void **state)
{
    (void)state;
    struct config c;
    struct dan_err e = {0};
    assert_int_equal(load("{\"vocab_size\": 1e3, \"n_embd\": 64, \"eos_token_id\": [2, 3], \"norm\": {\"eps\": 1}, "
                          "\"bos_token_id\": null, \"rope_scaling\": null,"
                          "\"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"default\"}}", &c, &e), DAN_OK);
    assert_int_equal(c.vocab, 1000);
    assert_int_equal(c.hidden, 64);
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.eos, 2);
    assert_true(c.rope == 5e5 && c.eps == 1 && c.tied);
    assert_int_equal(load("{\"vocab_size\": 5, \"hidden_size\": 6, \"tie_word_embeddings\": false}", &c, &e), DAN_OK);
    assert_true(c.rope == 10000 && c.eps == 1e-5 && !c.tied && c.hidden == 6);
}

static const struct { const char *json, *says; } refused[] = {
    {"{\"vocab_size\":5}", "'hidden_size'"},
    {"{\"vocab_size\":null,\"hidden_size\":4}", "'vocab_size'"},
    {"{\"vocab_size\":\"5\",\"hidden_size\":4}", "an integer"},
    {"{\"vocab_size\":5.5,\"hidden_size\":4}", "an integer"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"rope_theta\":true}", "a number"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"tie_word_embeddings\":1}", "true or false"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", "'rope_scaling' (linear)"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"rope_parameters\":{\"rope_type\":\"yarn\"}}", "'rope_parameters' (yarn)"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"hidden_act\":\"gelu\"}", "'hidden_act' (gelu)"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"attention_bias\":true}", "'attention_bias'"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"mlp_bias\":true}", "'mlp_bias'"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"sliding_window\":4096,\"use_sliding_window\":true}", "'sliding_window' (4096)"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"sliding_window\":16,\"max_position_embeddings\":32}", "'sliding_window' (16)"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "'layer_types'"},
    {"{\"vocab_size\":5,\"hidden_size\":4,\"quantization_config\":{\"bits\":4}}", "'quantization_config'"},
    {"{\"vocab_size\":5,", "JSON"},
    {"[]", "object"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct config c;
        struct dan_err e = {0};
        if (!load(refused[i].json, &c, &e) || !strstr(e.msg, refused[i].says)) fail_msg("case %zu says: %s", i, e.msg);
    }
}

static void test_harmless(void **state)
{
    (void)state;
    struct config c;
    struct dan_err e = {0};
    if (load("{\"vocab_size\":5,\"hidden_size\":4,\"hidden_act\":\"silu\",\"attention_bias\":false,\"sliding_window\":4096,"
             "\"use_sliding_window\":false,\"layer_types\":[\"full_attention\"],\"pretraining_tp\":1,\"anything\":[1]}", &c, &e))
        fail_msg("%s", e.msg);
}

static void test_save(void **state)
{
    (void)state;
    const struct config c = {1000, 64, -1, 7, 1e6, 1e-6, true};
    const struct dan_pair extra[] = {{"hidden_act", "\"silu\""}, {"norm.kind", "\"rms\""}};
    struct config d;
    struct dan_err e = {0};
    struct dan_str arch = {0}, type = {0};
    char p[300], *text;
    assert_int_equal(dan_hf_config_save(dir, "llama", "LlamaForCausalLM", fields, &c, extra, 2, &e), DAN_OK);
    assert_int_equal(dan_hf_config_load(dir, "llama", fields, &d, &e), DAN_OK);
    assert_true(d.vocab == 1000 && d.hidden == 64 && d.bos == -1 && d.eos == 7 && d.rope == 1e6 && d.eps == 1e-6 && d.tied);
    assert_int_equal(dan_hf_config_kind(dir, &arch, &type, &e), DAN_OK);
    assert_string_equal(arch.p, "LlamaForCausalLM");
    assert_string_equal(type.p, "llama");
    snprintf(p, sizeof p, "%s/config.json", dir);
    assert_int_equal(dan_read_file(p, &text, NULL, &e), DAN_OK);
    assert_non_null(strstr(text, "\"bos_token_id\": null"));
    assert_non_null(strstr(text, "\"kind\": \"rms\""));
    dan_free(text);
    dan_str_release(&arch);
    dan_str_release(&type);
    const struct dan_pair broken = {"x", "{"};
    assert_int_equal(dan_hf_config_save(dir, "llama", "A", fields, &c, &broken, 1, &e), DAN_EINVAL);
}

static void test_generation(void **state)
{
    (void)state;
    struct dan_hf_generation g;
    struct dan_err e = {0};
    assert_int_equal(dan_hf_generation_load("/nonexistent", &g, &e), DAN_OK);
    assert_true(g.bos == -1 && g.n_eos == 0 && g.temperature == 1 && g.top_k == 0);
    put("generation_config.json", "{\"eos_token_id\":[5,6],\"do_sample\":true,\"temperature\":0.7,\"top_k\":40,\"top_p\":null}");
    for (int i = 0; i < 2; i++) {              /* as written by others, then by us */
        assert_int_equal(dan_hf_generation_load(dir, &g, &e), DAN_OK);
        assert_true(g.n_eos == 2 && g.eos[1] == 6 && g.sample && g.temperature == 0.7 && g.top_k == 40 && g.top_p == 1);
        assert_int_equal(dan_hf_generation_save(dir, &g, &e), DAN_OK);
    }
    put("generation_config.json", "{\"eos");
    assert_int_equal(dan_hf_generation_load(dir, &g, &e), DAN_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_refused), cmocka_unit_test(test_harmless), cmocka_unit_test(test_save),
        cmocka_unit_test(test_generation),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
