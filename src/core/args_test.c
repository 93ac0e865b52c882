#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/args.h"
#include "base/threads.h"

struct job { struct dan_pool *pool; int sum[7], seen[7]; };

static void two_phases(void *ctx, int ith, int nth)
{
    struct job *j = ctx;
    struct dan_args a = {.pool = j->pool, .ith = ith, .nth = nth};
    j->sum[ith] = ith + 1;
    dan_args_barrier(&a);
    for (int i = 0; i < nth; i++) j->seen[ith] += j->sum[i];
}

static void barrier_orders_phases(void **state)
{
    (void)state;
    struct job j = {0};
    assert_int_equal(dan_pool_new(7, &j.pool, NULL), DAN_OK);
    dan_pool_run(j.pool, two_phases, &j);
    for (int i = 0; i < 7; i++) assert_int_equal(j.seen[i], 28);
    dan_pool_free(j.pool);
    const struct dan_args alone = {.nth = 1};
    dan_args_barrier(&alone);
}

static void shares_cover_once(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 50; n++)
        for (int nth = 1; nth <= 7; nth++)
            for (int64_t unit = 1; unit <= 16; unit *= 4) {
                int64_t at = 0, lo, hi;
                for (int i = 0; i < nth; i++) {
                    struct dan_args a = {.ith = i, .nth = nth};
                    dan_share(&a, n, unit, &lo, &hi);
                    assert_int_equal(lo, at);
                    assert_true(hi >= lo && (hi % unit == 0 || hi == n));
                    at = hi;
                }
                assert_int_equal(at, n);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barrier_orders_phases),
        cmocka_unit_test(shares_cover_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
