/* What stands before a text, from the files of a model folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "infer/generate.h"

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(dan_write_file(path, text, strlen(text), NULL), 0);
}

/* tokenizer.json, tokenizer_config.json -> the prefix. */
static void prefix(const char *tokenizer, const char *config, const int32_t *want, size_t n)
{
    static const char *const special[] = {"<|begin|>", "<|end|>"};
    struct dan_tok_train_opts o = {.special = special, .n_special = 2};
    char dir[] = "/tmp/danlu-prompt-XXXXXX";
    struct dan_tokenizer *t;
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    assert_non_null(mkdtemp(dir));
    if (tokenizer) put(dir, "tokenizer.json", tokenizer);
    if (config) put(dir, "tokenizer_config.json", config);
    assert_int_equal(dan_tokenizer_new_bytes(&o, &t, &e), 0);
    assert_int_equal(dan_prompt_prefix(dir, t, &ids, &e), 0);
    assert_int_equal(ids.n, n);
    if (n) assert_memory_equal(ids.v, want, n * sizeof *want);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
    dan_remove_tree(dir, NULL);
}

static void test_prefix(void **state)
{
    (void)state;
    const int32_t begin[] = {128000}, two[] = {7, 8};
    prefix(NULL, NULL, NULL, 0);
    prefix("{\"post_processor\": null, \"model\": {}}", "{}", NULL, 0);
    prefix("{\"post_processor\": {\"type\": \"ByteLevel\"}}", NULL, NULL, 0);
    prefix("{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, "
           "{\"Sequence\": {\"id\": \"A\"}},"
           "{\"SpecialToken\": {\"id\": \"</s>\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [7, 8]}, \"</s>\": {\"ids\": [9]}}}}",
           NULL, two, 2);
    prefix(
        "{\"a\": 1, \"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": "
        "\"TemplateProcessing\", \"single\": ["
        "{\"SpecialToken\": {\"id\": \"<b>\"}}, {\"Sequence\": {}}], \"special_tokens\": {\"<b>\": {\"ids\": [128000]}}}]}, \"model\": {}}",
        NULL, begin, 1);
    prefix("{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\"", NULL, NULL, 0);       /* cut file */
}

static void test_encode(void **state)
{
    (void)state;
    struct dan_tokenizer *t;
    int32_t v[] = {5};
    struct dan_ids prefix_ids = {v, 1, 1, false}, ids = {0};
    assert_int_equal(dan_tokenizer_new_bytes(NULL, &t, NULL), 0);
    assert_int_equal(dan_prompt_encode(t, &prefix_ids, "a<|endoftext|>", 14, &ids, NULL), 0);
    assert_int_equal(ids.n, 15);               /* text, not a control token */
    assert_int_equal(ids.v[0], 5);
    assert_int_equal(ids.v[1], 'a');
    ids.n = 0;
    assert_int_equal(dan_prompt_encode(t, NULL, "", 0, &ids, NULL), 0);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.v[0], dan_tokenizer_eos(t));
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prefix), cmocka_unit_test(test_encode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
