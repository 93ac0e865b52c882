#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/sys.h"
#include "base/threads.h"

static const int SIZES[] = {1, 2, 3, 7};

struct work { struct dan_pool *pool; int n_rounds; int64_t *cell; atomic_int n_wrong, n_calls; };

/* Everybody writes its own cell, then checks everybody's: without the barrier this is a race. */
static void rounds(void *ctx, int ith, int nth)
{
    struct work *w = ctx;
    for (int r = 1; r <= w->n_rounds; r++) {
        w->cell[ith * 8] = r;
        dan_pool_barrier(w->pool);
        for (int i = 0; i < nth; i++)
            if (w->cell[i * 8] != r) w->n_wrong++;
        dan_pool_barrier(w->pool);
    }
}

static void barriers_hold(void **state)
{
    (void)state;
    for (int s = 0; s < 4; s++) {
        struct work w = {.n_rounds = 5000, .cell = dan_calloc(8 * 8, sizeof(int64_t))};
        assert_int_equal(dan_pool_new(SIZES[s], &w.pool, NULL), DAN_OK);
        assert_int_equal(dan_pool_size(w.pool), SIZES[s]);
        double t = dan_now();
        dan_pool_run(w.pool, rounds, &w);
        print_message("%d threads: %.1f us a barrier\n", SIZES[s], (dan_now() - t) * 1e6 / 10000);
        assert_int_equal(w.n_wrong, 0);
        dan_pool_free(w.pool);
        dan_free(w.cell);
    }
}

static void count(void *ctx, int ith, int nth)
{
    struct work *w = ctx;
    w->cell[ith * 8] += nth;
    w->n_calls++;
}

static void tiny_regions(void **state)
{
    (void)state;
    for (int s = 0; s < 4; s++) {
        struct work w = {.n_rounds = 2000, .cell = dan_calloc(8 * 8, sizeof(int64_t))};
        assert_int_equal(dan_pool_new(SIZES[s], &w.pool, NULL), DAN_OK);
        double t = dan_now();
        for (int i = 0; i < w.n_rounds; i++) dan_pool_run(w.pool, count, &w);
        print_message("%d threads: %.1f us a region\n", SIZES[s], (dan_now() - t) * 1e6 / w.n_rounds);
        usleep(2000);                                  /* workers sleep now */
        dan_pool_run(w.pool, count, &w);
        assert_int_equal(w.n_calls, (w.n_rounds + 1) * SIZES[s]);
        for (int i = 0; i < SIZES[s]; i++) assert_int_equal(w.cell[i * 8], (w.n_rounds + 1) * SIZES[s]);
        dan_pool_free(w.pool);
        dan_free(w.cell);
    }
}

/* One thread comes late, so that the others sleep in the barrier and at the end. */
static void late(void *ctx, int ith, int nth)
{
    struct work *w = ctx;
    if (ith == nth - 1) usleep(5000);
    dan_pool_barrier(w->pool);
    if (ith == 1) usleep(5000);
    w->n_calls++;
}

static void sleepers_wake(void **state)
{
    (void)state;
    struct work w = {0};
    assert_int_equal(dan_pool_new(3, &w.pool, NULL), DAN_OK);
    for (int i = 0; i < 20; i++) dan_pool_run(w.pool, late, &w);
    assert_int_equal(w.n_calls, 60);
    dan_pool_free(w.pool);
}

static void no_pool_is_one_thread(void **state)
{
    (void)state;
    int64_t cell[1] = {0};
    struct work w = {.cell = cell};
    dan_pool_run(NULL, count, &w);
    dan_pool_barrier(NULL);
    assert_int_equal(cell[0], 1);
    assert_int_equal(dan_pool_size(NULL), 1);
    dan_pool_free(NULL);
    struct dan_pool *p;
    assert_int_equal(dan_pool_new(0, &p, NULL), DAN_OK);
    assert_int_equal(dan_pool_size(p), dan_n_cores());
    dan_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_hold),
        cmocka_unit_test(tiny_regions),
        cmocka_unit_test(sleepers_wake),
        cmocka_unit_test(no_pool_is_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
