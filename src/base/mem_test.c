#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

static void zero_bytes_are_not_out_of_memory(void **state)
{
    (void)state;
    void *p = dan_malloc(0), *q = dan_calloc(0, 8);
    assert_non_null(p);
    assert_non_null(q);
    p = dan_realloc(p, 0);
    assert_non_null(p);
    dan_free(p);
    dan_free(q);
    volatile size_t half = SIZE_MAX / 2;               /* volatile: gcc warns of the constant */
    assert_null(dan_calloc(half, 3));
}

static void vector_doubles_and_refuses_overflow(void **state)
{
    (void)state;
    int *v = NULL;
    size_t cap = 0;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(dan_vec_grow(&v, &cap, (size_t)i + 1, sizeof *v), 0);
        v[i] = i;
    }
    assert_int_equal(cap, 1024);
    for (int i = 0; i < 1000; i++) assert_int_equal(v[i], i);
    int *before = v;
    assert_int_equal(dan_vec_grow(&v, &cap, SIZE_MAX / 2, sizeof *v), -1);
    assert_ptr_equal(v, before);
    assert_int_equal(cap, 1024);
    dan_free(v);
}

static void huge_memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 4096, 100000, 2 << 20, (5 << 20) + 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *p = dan_huge_alloc(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (sizes[i] >= 2 << 20 ? 2 << 20 : 4096), 0);
        for (size_t k = 0; k < sizes[i]; k += 1023) assert_int_equal(p[k], 0);
        memset(p, 1, sizes[i]);
        dan_huge_free(p, sizes[i]);
    }
    assert_null(dan_huge_alloc(SIZE_MAX));
}

static void first_failure_stays(void **state)
{
    (void)state;
    struct dan_err e = {0};
    assert_int_equal(dan_fail(&e, DAN_EIO, "cannot open '%s'", "x"), DAN_EIO);
    assert_int_equal(dan_fail(&e, DAN_EINVAL, "second"), DAN_EINVAL);
    assert_int_equal(e.code, DAN_EIO);
    assert_string_equal(e.msg, "cannot open 'x'");
    assert_int_equal(dan_fail(NULL, DAN_EUSAGE, "nobody listens"), DAN_EUSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_bytes_are_not_out_of_memory),
        cmocka_unit_test(vector_doubles_and_refuses_overflow),
        cmocka_unit_test(huge_memory_is_zeroed_and_aligned),
        cmocka_unit_test(first_failure_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
