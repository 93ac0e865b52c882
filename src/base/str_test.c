#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/str.h"

static void grows_and_stays_terminated(void **state)
{
    (void)state;
    struct dan_str s = {0};
    assert_string_equal(dan_str_c(&s), "");
    for (int i = 0; i < 1000; i++) {
        dan_str_putc(&s, 'a');
        assert_int_equal(s.p[s.n], 0);
    }
    dan_str_clear(&s);
    dan_str_puts(&s, "step ");
    dan_str_printf(&s, "%d, loss %.2f", 7, 1.5);
    dan_str_append(&s, "\0x", 2);
    assert_int_equal(s.n, 19);
    assert_memory_equal(s.p, "step 7, loss 1.50\0x", 20);
    assert_false(s.failed);
    dan_str_release(&s);
    assert_null(s.p);
}

static void failure_sticks(void **state)
{
    (void)state;
    struct dan_str s = {0};
    dan_str_puts(&s, "kept");
    volatile size_t too_much = SIZE_MAX - 2;
    dan_str_append(&s, "", too_much);
    assert_true(s.failed);
    dan_str_puts(&s, "not");
    assert_string_equal(dan_str_c(&s), "kept");
    dan_str_release(&s);
}

static void distances(void **state)
{
    (void)state;
    const struct { const char *a, *b; int d; } t[] = {
        {"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"train", "train", 0}, {"trian", "train", 1},
        {"kitten", "sitting", 3}, {"ca", "abc", 3}, {"generate", "genrate", 1}, {"ab", "ba", 1},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        assert_int_equal(dan_str_distance(t[i].a, t[i].b), t[i].d);
        assert_int_equal(dan_str_distance(t[i].b, t[i].a), t[i].d);
    }
}

static void ends(void **state)
{
    (void)state;
    assert_true(dan_str_starts("model.layers", "model."));
    assert_false(dan_str_starts("mod", "model"));
    assert_true(dan_str_ends("a.gguf", ".gguf"));
    assert_true(dan_str_ends("a", ""));
    assert_false(dan_str_ends("gguf", ".gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(failure_sticks),
        cmocka_unit_test(distances),
        cmocka_unit_test(ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
