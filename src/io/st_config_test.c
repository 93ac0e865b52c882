/* modules.json and what it names: old and new spellings, nothing given, what is refused. */
#include "io/st_config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"

static char dir[64];

static void put(const char *name, const char *text)
{
    char path[256];
    struct dan_err e = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    if (dan_mkdirs(path, &e)) fail_msg("%s", e.msg);
    *slash = '/';
    if (dan_write_file(path, text, strlen(text), &e)) fail_msg("%s", e.msg);
}

#define MODULE(type, path) "{\"idx\": 0, \"name\": \"0\", \"path\": \"" path "\", \"type\": \"sentence_transformers.models." type "\"}"
#define USUAL "[" MODULE("Transformer", "") ", " MODULE("Pooling", "1_Pooling") ", " MODULE("Normalize", "2_Normalize") "]"

static struct dan_st_config load(void)
{
    struct dan_st_config c;
    struct dan_err e = {0};
    if (dan_st_config_load(dir, &c, &e)) fail_msg("%s", e.msg);
    return c;
}

static void test_given(void **state)
{
    (void)state;
    put("modules.json", " \n" USUAL);
    put("sentence_bert_config.json", "{\"max_seq_length\": 256, \"do_lower_case\": false}");
    put("1_Pooling/config.json", "{\"pooling_mode_cls_token\": false, \"pooling_mode_mean_tokens\": true, \"pooling_mode_max_tokens\": "
        "false}");
    struct dan_st_config c = load();
    assert_string_equal(c.pooling, "mean");
    assert_true(c.normalize);
    assert_int_equal(c.max_tokens, 256);
    put("1_Pooling/config.json", "{\"embedding_dimension\": 384, \"pooling_mode\": \"cls\"}");
    put("modules.json", "[" MODULE("Transformer", "") ", " MODULE("Pooling", "1_Pooling") "]");
    put("sentence_bert_config.json", "{\"max_seq_length\": null}");
    c = load();
    assert_string_equal(c.pooling, "cls");
    assert_false(c.normalize);
    assert_int_equal(c.max_tokens, 0);
    put("1_Pooling/config.json", "{\"pooling_mode_max_tokens\": true}");
    assert_string_equal(load().pooling, "max");
    put("1_Pooling/config.json", "{}");
    assert_string_equal(load().pooling, "mean");
}

static void test_absent(void **state)
{
    (void)state;
    struct dan_st_config c;
    struct dan_err e = {0};
    assert_int_equal(dan_st_config_load("/nowhere", &c, &e), DAN_OK);
    assert_string_equal(c.pooling, "");
    assert_false(c.normalize);
    assert_int_equal(c.max_tokens, 0);
}

static void refused(const char *modules, const char *pooling, const char *part)
{
    struct dan_st_config c;
    struct dan_err e = {0};
    put("modules.json", modules);
    put("1_Pooling/config.json", pooling);
    assert_int_not_equal(dan_st_config_load(dir, &c, &e), DAN_OK);
    if (!strstr(e.msg, part)) fail_msg("%s", e.msg);
}

static void test_refused(void **state)
{
    (void)state;
    refused("[" MODULE("Transformer", "") ", " MODULE("Dense", "2_Dense") "]", "{}", "models.Dense");
    refused(USUAL, "{\"pooling_mode\": \"lasttoken\"}", "'lasttoken'");
    refused(USUAL, "{\"pooling_mode\": [\"cls\", \"mean\"]}", "is a list");
    refused(USUAL, "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": true}", "joins two");
    refused(USUAL, "{\"pooling_mode_weightedmean_tokens\": true}", "'weightedmean'");
    refused("[" MODULE("Pooling", "../../etc") "]", "{}", "models.Pooling");
    refused("[" MODULE("Pooling", "3_Pooling") "]", "{}", "is missing");
    refused("[1, ", "{}", "invalid JSON");
}

int main(void)
{
    snprintf(dir, sizeof dir, "/tmp/danlu-st-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_given), cmocka_unit_test(test_absent), cmocka_unit_test(test_refused)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    struct dan_err e = {0};
    dan_remove_tree(dir, &e);
    return failed;
}
