#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/child.h"

static void test_answers(void **state)
{
    (void)state;
    struct dan_child *c;
    struct dan_err e = {0};
    struct dan_str out = {0}, in = {0};
    assert_int_equal(dan_child_start("while read x; do echo \"<$x>\"; done", &c, &e), DAN_OK);
    assert_int_equal(dan_child_ask(c, "a\nb\n", 4, 2, 10, &out, &e), DAN_OK);
    assert_string_equal(dan_str_c(&out), "<a>\n<b>\n");
    dan_child_stop(c);
    for (int i = 0; i < 50000; i++) dan_str_printf(&in, "line %d of many, longer than what a socket holds\n", i);
    dan_str_clear(&out);
    assert_int_equal(dan_child_start("cat", &c, &e), DAN_OK);
    assert_int_equal(dan_child_ask(c, in.p, in.n, 50000, 10, &out, &e), DAN_OK);
    assert_int_equal(out.n, in.n);
    assert_memory_equal(out.p, in.p, in.n);
    dan_child_stop(c);
    dan_str_release(&in);
    dan_str_release(&out);
}

static void test_failures(void **state)
{
    (void)state;
    static const struct { const char *command, *error; } cases[] = {
        {"read x; exit 3", "ended with status 3 after 0 of 2 answers"},
        {"read x; echo 1; kill -9 $$", "was ended by signal 9 after 1 of 2 answers"},
        {"read x; sleep 5", "has said nothing for 0.2 s after 0 of 2 answers"},
        {"read x; read y; printf '1\\n2\\n3\\n'; sleep 5", "answers more lines than it was asked (2)"},
        {"no-such-program-at-all 2>/dev/null", "ended with status 127"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dan_child *c;
        struct dan_err e = {0};
        struct dan_str out = {0};
        assert_int_equal(dan_child_start(cases[i].command, &c, &e), DAN_OK);
        assert_int_not_equal(dan_child_ask(c, "a\nb\n", 4, 2, 0.2, &out, &e), DAN_OK);
        if (!strstr(e.msg, cases[i].error)) fail_msg("'%s', expected '%s'", e.msg, cases[i].error);
        dan_child_stop(c);
        dan_str_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
