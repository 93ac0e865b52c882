#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "base/mem.h"
#include "base/sys.h"

static void time_passes(void **state)
{
    (void)state;
    double a = dan_now();
    while (dan_now() <= a) ;
    assert_true(dan_unix_time() > 1700000000);
}

static void cores_follow_affinity(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_in_range(dan_n_cores(), 1, CPU_COUNT(&all));
    int first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(dan_n_cores(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void memory_follows_limits(void **state)
{
    (void)state;
    int64_t free_now = dan_memory_available();
    assert_true(free_now > 1 << 20);
    enum { N = 32 << 20 };
    char *p = dan_huge_alloc(N);
    assert_non_null(p);
    memset(p, 1, N);
    assert_true(dan_peak_rss() >= N);
    dan_huge_free(p, N);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    small = old;
    small.rlim_cur = (rlim_t)1 << 50;                  /* also under sanitizers, which map terabytes */
    if (setrlimit(RLIMIT_AS, &small) != 0) skip();
    assert_true(dan_memory_available() <= (int64_t)1 << 50);
    small.rlim_cur = 1 << 20;                          /* less than is mapped already */
    setrlimit(RLIMIT_AS, &small);
    int64_t left = dan_memory_available();
    setrlimit(RLIMIT_AS, &old);
    assert_int_equal(left, 0);
}

static void environment(void **state)
{
    (void)state;
    setenv("DAN_TEST_X", "", 1);
    assert_null(dan_env("DAN_TEST_X"));
    setenv("DAN_TEST_X", "1", 1);
    assert_string_equal(dan_env("DAN_TEST_X"), "1");
    unsetenv("DAN_TEST_X");
    assert_null(dan_env("DAN_TEST_X"));
}

static void cpu(void **state)
{
    (void)state;
    uint64_t f = dan_cpu_features();
    assert_int_equal(f, dan_cpu_features());
#if defined(__x86_64__)
    __builtin_cpu_init();
    assert_int_equal(!!(f & DAN_CPU_AVX2), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    assert_int_equal(!!(f & DAN_CPU_AVX512), __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"));
#endif
    char text[200], tiny[5];
    dan_cpu_describe(text, sizeof text);
    print_message("%s\n", text);
    assert_non_null(strstr(text, " core"));
    dan_cpu_describe(tiny, sizeof tiny);
    assert_int_equal(strlen(tiny), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_passes),
        cmocka_unit_test(cores_follow_affinity),
        cmocka_unit_test(memory_follows_limits),
        cmocka_unit_test(environment),
        cmocka_unit_test(cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
