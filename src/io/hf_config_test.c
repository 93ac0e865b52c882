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
    put("generation_config.json", "{\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1]}");
    e = (struct dan_err){0};
    assert_int_equal(dan_hf_generation_load(dir, &g, &e), DAN_OK);
    assert_int_equal(g.n_eos, DAN_HF_MAX_EOS);
    put("generation_config.json", "{\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2]}");
    assert_int_equal(dan_hf_generation_load(dir, &g, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "more than 32"));
    char p[300];
    snprintf(p, sizeof p, "%s/generation_config.json", dir);
    unlink(p);
    put("config.json", "{\"eos_token_id\":[128001,128008,128009],\"bos_token_id\":128000,\"temperature\":0.5}");
    e = (struct dan_err){0};
    assert_int_equal(dan_hf_generation_load(dir, &g, &e), DAN_OK);
    assert_true(g.n_eos == 3 && g.eos[0] == 128001 && g.eos[2] == 128009 && g.bos == 128000 && g.temperature == 1 && !g.sample);
    put("generation_config.json", "{\"eos");
    e = (struct dan_err){0};
    assert_int_equal(dan_hf_generation_load(dir, &g, &e), DAN_EFORMAT);
}

/* --- rotary positions and windows: both spellings, what is wrong, what is written */

struct shape { int64_t layers; struct dan_rope rope, local; struct dan_window window; };
#define IN(f) (uint16_t)offsetof(struct shape, f)
static const struct dan_field shape_fields[] = {
    {"num_hidden_layers", 'i', IN(layers), {.i = 8}}, {DAN_ROPE_KEYS, 'r', IN(rope), {.f = 10000}},
    {"rope_local_base_freq", 'l', IN(local), {.f = 777}}, {DAN_WINDOW_KEYS, 'w', IN(window), {.i = DAN_WINDOW_IF_USED}}, {0}};

static int load_shape(const char *text, enum dan_window_rule rule, struct shape *s, struct dan_err *e)
{
    struct dan_field f[5];
    memcpy(f, shape_fields, sizeof f);
    f[3].dflt.i = rule;
    put("config.json", text);
    return dan_hf_config_load(dir, "x", f, s, e);
}

static const struct { const char *json; struct dan_rope rope; double local; } ropes[] = {
    {"{}", {.base = 10000, .part = 1}, 777},
    {"{\"rope_theta\":5e5,\"rope_scaling\":null,\"partial_rotary_factor\":0.5,\"rope_local_base_freq\":99}", {.base = 5e5, .part = 0.5}, 99},
    {"{\"rope_theta\":7,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", {.kind = DAN_ROPE_LINEAR, .base = 7, .factor = 2, .part = 1}, 777},
    {"{\"rope_parameters\":{\"rope_type\":\"dynamic\",\"rope_theta\":7,\"factor\":4,\"partial_rotary_factor\":0.25}}",
     {.kind = DAN_ROPE_DYNAMIC, .base = 7, .factor = 4, .part = 0.25}, 777},
    {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":32,\"beta_fast\":16,\"truncate\":false,"
     "\"attention_factor\":1.5}}", {.kind = DAN_ROPE_YARN_SMOOTH, .base = 10000, .factor = 4, .high = 16, .original = 32, .by = 1.5, .part = 1}, 777},
    {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}}",
     {.kind = DAN_ROPE_LLAMA3, .base = 10000, .factor = 8, .low = 1, .high = 4, .original = 8192, .part = 1}, 777},
    {"{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":8,\"rope_theta\":1e6},"
     "\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":55}}}", {.kind = DAN_ROPE_LINEAR, .base = 1e6, .factor = 8, .part = 1}, 55},
};

static void test_rope(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ropes / sizeof ropes[0]; i++) {
        struct shape s, again;
        struct dan_err e = {0};
        if (load_shape(ropes[i].json, DAN_WINDOW_IF_USED, &s, &e)) fail_msg("%s", e.msg);
        if (memcmp(&s.rope, &ropes[i].rope, sizeof s.rope) || s.local.base != ropes[i].local) fail_msg("case %zu", i);
        dan_rope_complete(&s.rope, 64, 128);
        assert_int_equal(dan_hf_config_save(dir, "x", "X", shape_fields, &s, NULL, 0, &e), DAN_OK);
        if (dan_hf_config_load(dir, "x", shape_fields, &again, &e)) fail_msg("%s", e.msg);
        dan_rope_complete(&again.rope, 64, 128);
        if (memcmp(&s.rope, &again.rope, sizeof s.rope) || s.local.base != again.local.base) fail_msg("case %zu, written and read", i);
    }
}

static const struct { enum dan_window_rule rule; const char *json; int64_t width; uint64_t layers; } windows[] = {
    {DAN_WINDOW_ALL, "{\"num_hidden_layers\":8}", 0, 0},
    {DAN_WINDOW_ALL, "{\"num_hidden_layers\":8,\"sliding_window\":5}", 5, 0xFF},
    {DAN_WINDOW_ALL_4096, "{\"num_hidden_layers\":8}", 4096, 0xFF},
    {DAN_WINDOW_ALL_4096, "{\"num_hidden_layers\":8,\"sliding_window\":null}", 0, 0},
    {DAN_WINDOW_IF_USED, "{\"num_hidden_layers\":8,\"sliding_window\":5}", 0, 0},
    {DAN_WINDOW_IF_USED, "{\"num_hidden_layers\":8,\"sliding_window\":5,\"use_sliding_window\":true,\"max_window_layers\":6}", 5, 0xC0},
    {DAN_WINDOW_IF_USED, "{\"num_hidden_layers\":2,\"sliding_window\":5,\"use_sliding_window\":true,\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", 5, 1},
    {DAN_WINDOW_BUT_2ND, "{\"num_hidden_layers\":8,\"sliding_window\":5}", 5, 0x55},
    {DAN_WINDOW_BUT_6TH, "{\"num_hidden_layers\":8,\"sliding_window\":5}", 5, 0xDF},
    {DAN_WINDOW_BUT_6TH, "{\"num_hidden_layers\":8,\"sliding_window\":5,\"sliding_window_pattern\":4}", 5, 0x77},
};

static void test_windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        struct shape s, again;
        struct dan_err e = {0};
        struct dan_field f[5];
        memcpy(f, shape_fields, sizeof f);
        f[3].dflt.i = windows[i].rule;
        if (load_shape(windows[i].json, windows[i].rule, &s, &e)) fail_msg("%s", e.msg);
        if (s.window.width != windows[i].width || s.window.layer[0] != windows[i].layers || s.window.layer[1])
            fail_msg("case %zu: %lld, %llx", i, (long long)s.window.width, (unsigned long long)s.window.layer[0]);
        assert_int_equal(dan_hf_config_save(dir, "x", "X", f, &s, NULL, 0, &e), DAN_OK);
        if (dan_hf_config_load(dir, "x", f, &again, &e)) fail_msg("%s", e.msg);
        if (memcmp(&s.window, &again.window, sizeof s.window)) fail_msg("case %zu, written and read", i);
    }
}

static const struct { const char *json, *says; } misshapen[] = {
    {"{\"rope_scaling\":{\"rope_type\":\"longrope\"}}", "'rope_scaling' (longrope)"},
    {"{\"rope_scaling\":3}", "'rope_scaling'"},
    {"{\"rope_scaling\":{\"type\":\"linear\"}}", "'factor' in 'rope_scaling'"},
    {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":-1}}", "'factor'"},
    {"{\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,\"original_max_position_embeddings\":9}}", "'low_freq_factor'"},
    {"{\"rope_theta\":\"x\"}", "'rope_theta'"},
    {"{\"rope_theta\":0}", "'rope_theta'"},
    {"{\"partial_rotary_factor\":1.5}", "'partial_rotary_factor'"},
    {"{\"layer_types\":[\"chunked_attention\"]}", "'layer_types' (chunked_attention)"},
    {"{\"layer_types\":7}", "'layer_types'"},
    {"{\"sliding_window\":-4}", "'sliding_window'"},
    {"{\"sliding_window\":4,\"use_sliding_window\":true,\"num_hidden_layers\":300}", "300 layers"},
};

static void test_misshapen(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misshapen / sizeof misshapen[0]; i++) {
        struct shape s;
        struct dan_err e = {0};
        if (!load_shape(misshapen[i].json, DAN_WINDOW_IF_USED, &s, &e) || !strstr(e.msg, misshapen[i].says)) fail_msg("case %zu says: %s", i, e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_refused), cmocka_unit_test(test_harmless), cmocka_unit_test(test_save),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_rope), cmocka_unit_test(test_windows), cmocka_unit_test(test_misshapen),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
