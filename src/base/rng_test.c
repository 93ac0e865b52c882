#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "base/rng.h"

/* kat_vectors of Random123; counter words 0-1 are our counter, 2-3 our stream, the key our seed. */
static void known_answers(void **state)
{
    (void)state;
    const struct { uint64_t seed, stream, counter; uint32_t out[4]; } t[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint32_t out[4];
        dan_philox(t[i].seed, t[i].stream, t[i].counter, out);
        assert_memory_equal(out, t[i].out, sizeof out);
    }
}

static void sequence_is_the_blocks_in_order(void **state)
{
    (void)state;
    struct dan_rng r = {7, 3, 0};
    for (uint64_t block = 0; block < 5; block++) {
        uint32_t out[4];
        dan_philox(7, 3, block, out);
        for (int i = 0; i < 4; i++) assert_int_equal(dan_rng_u32(&r), out[i]);
    }
    struct dan_rng resumed = {7, 3, 11}, from_start = {7, 3, 0};
    for (int i = 0; i < 11; i++) dan_rng_u32(&from_start);
    assert_int_equal(dan_rng_u32(&resumed), dan_rng_u32(&from_start));
}

static void below_is_uniform(void **state)
{
    (void)state;
    struct dan_rng r = {1, 0, 0};
    int count[10] = {0};
    for (int i = 0; i < 100000; i++) count[dan_rng_below(&r, 10)]++;
    double chi2 = 0;
    for (int i = 0; i < 10; i++) chi2 += pow(count[i] - 10000, 2) / 10000;
    assert_true(chi2 < 30);                            /* 9 degrees of freedom: p = 0.0004 */
    assert_int_equal(dan_rng_below(&r, 1), 0);
    const uint64_t big = (UINT64_MAX / 3) * 2;
    for (int i = 0; i < 100; i++) assert_true(dan_rng_below(&r, big) < big);
}

static void moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct dan_rng r = {2, 9, 0};
    double mean = 0, square = 0, fourth = 0, uniform = 0;
    for (int i = 0; i < N; i++) {
        double x = dan_rng_normal(&r), u = dan_rng_uniform(&r);
        assert_true(isfinite(x) && u >= 0 && u < 1);
        mean += x / N;
        square += x * x / N;
        fourth += x * x * x * x / N;
        uniform += u / N;
    }
    assert_true(fabs(mean) < 0.015 && fabs(square - 1) < 0.02 && fabs(fourth - 3) < 0.15);
    assert_true(fabs(uniform - 0.5) < 0.005);
    assert_true(dan_u01(UINT32_MAX) < 1.0f && dan_u01(0) == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(sequence_is_the_blocks_in_order),
        cmocka_unit_test(below_is_uniform),
        cmocka_unit_test(moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
