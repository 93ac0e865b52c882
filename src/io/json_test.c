/* JSON as people's files have it: whole numbers of more than 64 bits; and bytes as strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "io/json.h"

static int parse(const char *text, json_t **out, struct dan_err *e) { return dan_json_parse("x.json", text, strlen(text), DAN_JSON_MAX_DEPTH, out, e); }

static void test_big_numbers(void **state)
{
    (void)state;
    json_t *j;
    struct dan_err e = {0};
    if (parse("{\"a\":1000000000000000019884624838656,\"b\":\"1000000000000000019884624838656 \\\" 99999999999999999999\",\n"
              "\"c\":[9223372036854775807,-9223372036854775807,-99999999999999999999,1.5e3,0.12345678901234567890123,1e-19,12]}", &j, &e))
        fail_msg("%s", e.msg);
    json_t *c = json_object_get(j, "c");
    assert_true(json_real_value(json_object_get(j, "a")) == 1000000000000000019884624838656.0);
    assert_string_equal(json_string_value(json_object_get(j, "b")), "1000000000000000019884624838656 \" 99999999999999999999");
    assert_true(json_integer_value(json_array_get(c, 0)) == INT64_MAX && json_integer_value(json_array_get(c, 1)) == -INT64_MAX);
    assert_true(json_real_value(json_array_get(c, 2)) == -1e20 && json_real_value(json_array_get(c, 3)) == 1500);
    assert_true(json_is_real(json_array_get(c, 4)) && json_integer_value(json_array_get(c, 6)) == 12);
    json_decref(j);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"a\":1e999999}", "{\"a\":99999999999999999999x}", "{\"a\":99999999999999999999", "{\"a\":1,\"a\":99999999999999999999}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j;
        struct dan_err e = {0};
        assert_int_equal(parse(bad[i], &j, &e), DAN_EFORMAT);
        assert_non_null(strstr(e.msg, "x.json"));
    }
}

static void test_string_of(void **state)
{
    (void)state;
    json_t *j = dan_json_string_of("a\xe2\x82\0z\xc3\xa9", 7);
    assert_int_equal(json_string_length(j), 11);
    assert_memory_equal(json_string_value(j), "a\xef\xbf\xbd\xef\xbf\xbd\0z\xc3\xa9", 11);
    json_decref(j);
    j = dan_json_string_of("", 0);
    assert_string_equal(json_string_value(j), "");
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_big_numbers), cmocka_unit_test(test_refused), cmocka_unit_test(test_string_of)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
