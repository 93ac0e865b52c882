#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "core/half.h"

/* The definition, in double. */
static double f16_value(unsigned h)
{
    int exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -v : v;
}

static void every_f16_round_trips(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float x = dan_f16_to_f32((uint16_t)h);
        unsigned back = dan_f32_to_f16(x);
        if ((h & 0x7fff) > 0x7c00) assert_true(isnan(x) && back == (h | 0x200));      /* NaNs become quiet */
        else if ((h & 0x7fff) == 0x7c00) assert_true(isinf(x) && back == h);
        else assert_true((double)x == f16_value(h) && back == h);
    }
}

/* Between neighbours: halfway goes to the even one, anything else to the nearer one. */
static void f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        float middle = (float)((f16_value(h) + f16_value(h + 1)) / 2);                 /* 0x7c00 reads as 65536 here */
        assert_int_equal(dan_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(dan_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(dan_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(dan_f32_to_f16(-middle), 0x8000 | (h & 1 ? h + 1 : h));
    }
    assert_int_equal(dan_f32_to_f16(1e-30f), 0);
    assert_int_equal(dan_f32_to_f16(-1e-45f), 0x8000);
    assert_int_equal(dan_f32_to_f16(3e38f), 0x7c00);
}

static void every_bf16_round_trips_and_rounds(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = dan_bf16_to_f32((uint16_t)h);
        uint16_t back = dan_f32_to_bf16(x);
        if (isnan(x)) {
            assert_int_equal(back, h | 0x40);
            continue;
        }
        assert_int_equal(back, h);
        if (isinf(x)) continue;
        assert_int_equal(dan_f32_to_bf16(dan_bits_float(h << 16 | 0x7fff)), h);
        assert_int_equal(dan_f32_to_bf16(dan_bits_float(h << 16 | 0x8000)), h + (h & 1));
        assert_int_equal(dan_f32_to_bf16(dan_bits_float(h << 16 | 0x8001)), h + 1);
    }
    assert_true(isnan(dan_bf16_to_f32(dan_f32_to_bf16(dan_bits_float(0x7f800001)))));   /* payload in the lower half */
    assert_true(isnan(dan_bf16_to_f32(dan_f32_to_bf16(dan_bits_float(0x7fffffff)))));   /* would carry into the sign */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_round_trips),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(every_bf16_round_trips_and_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
