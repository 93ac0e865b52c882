#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/arena.h"

static void allocations_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct dan_arena *a = dan_arena_new();
    assert_non_null(a);
    unsigned char *p[500];
    size_t size[500];
    for (size_t i = 0; i < 500; i++) {
        size[i] = i % 50 == 49 ? 100000 : i % 131;     /* large ones get chunks of their own */
        p[i] = dan_arena_alloc(a, size[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(p[i][k], 0);
        memset(p[i], (int)(i & 127) + 1, size[i]);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(p[i][k], (i & 127) + 1);
    assert_true(dan_arena_bytes(a) >= 10 * 100000);
    dan_arena_free(a);
    dan_arena_free(NULL);
}

static void text(void **state)
{
    (void)state;
    struct dan_arena *a = dan_arena_new();
    assert_string_equal(dan_arena_strdup(a, "weights"), "weights");
    assert_string_equal(dan_arena_printf(a, "blk.%d.%s", 12, "attn_q"), "blk.12.attn_q");
    char *s = dan_arena_printf(a, "%30000d", 7);
    assert_int_equal(strlen(s), 30000);
    dan_arena_free(a);
}

static void too_much_is_null(void **state)
{
    (void)state;
    struct dan_arena *a = dan_arena_new();
    assert_null(dan_arena_alloc(a, SIZE_MAX));
    assert_null(dan_arena_alloc(a, SIZE_MAX / 2));
    assert_non_null(dan_arena_alloc(a, 1));
    dan_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_aligned_zeroed_and_apart),
        cmocka_unit_test(text),
        cmocka_unit_test(too_much_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
