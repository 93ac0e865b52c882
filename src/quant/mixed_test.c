/* The choice of formats against trying all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "quant/mixed.h"

enum { ITEMS = 8, FORMS = 4 };

struct problem { struct dan_mixed_item item[ITEMS]; double cost[ITEMS][FORMS]; size_t bytes[ITEMS][FORMS]; size_t least, most; };

/* Bytes fall and costs rise, mostly, from one form to the next. */
static void make(struct problem *p, uint64_t seed, bool ties)
{
    struct dan_rng r = {.seed = seed};
    p->least = p->most = 0;
    for (int i = 0; i < ITEMS; i++) {
        size_t low = SIZE_MAX, high = 0, base = ties ? 1024 : 500 + (size_t)dan_rng_below(&r, 5000);
        for (int k = 0; k < FORMS; k++) {
            p->bytes[i][k] = base * (size_t)(FORMS - k) + (ties ? 0 : (size_t)dan_rng_below(&r, 300));
            p->cost[i][k] = ties ? (double)k : dan_rng_uniform(&r) * pow(4, k);
            low = p->bytes[i][k] < low ? p->bytes[i][k] : low;
            high = p->bytes[i][k] > high ? p->bytes[i][k] : high;
        }
        p->item[i] = (struct dan_mixed_item){FORMS, p->cost[i], p->bytes[i]};
        p->least += low;
        p->most += high;
    }
}

static double brute(const struct problem *p, size_t budget)
{
    double best = INFINITY;
    for (int code = 0; code < 1 << (2 * ITEMS); code++) {
        double cost = 0;
        size_t bytes = 0;
        for (int i = 0; i < ITEMS; i++) {
            cost += p->cost[i][code >> 2 * i & 3];
            bytes += p->bytes[i][code >> 2 * i & 3];
        }
        if (bytes <= budget && cost < best) best = cost;
    }
    return best;
}

static void test_exhaustive(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct problem p;
        make(&p, seed, seed % 3 == 0);
        for (int part = 0; part <= 4; part++) {
            size_t budget = p.least + (p.most - p.least) * (size_t)part / 4;
            int choice[ITEMS];
            struct dan_mixed_plan plan = {.choice = choice};
            struct dan_err e = {0};
            double cost = 0;
            size_t bytes = 0;
            if (dan_mixed_choose(p.item, ITEMS, budget, &plan, &e)) fail_msg("%s", e.msg);
            for (int i = 0; i < ITEMS; i++) cost += p.cost[i][choice[i]], bytes += p.bytes[i][choice[i]];
            assert_true(plan.exact && bytes == plan.bytes && bytes <= budget);
            assert_true(fabs(cost - plan.cost) <= 1e-12 * (1 + cost));
            assert_true(fabs(cost - brute(&p, budget)) <= 1e-12 * (1 + cost));
        }
    }
}

/* To the byte: exactly enough is enough, one less is another plan or none. */
static void test_budget(void **state)
{
    (void)state;
    struct problem p;
    int choice[ITEMS];
    struct dan_mixed_plan plan = {.choice = choice};
    struct dan_err e = {0};
    make(&p, 5, false);
    if (dan_mixed_choose(p.item, ITEMS, p.least, &plan, &e)) fail_msg("%s", e.msg);
    assert_int_equal(plan.bytes, p.least);
    assert_int_equal(dan_mixed_choose(p.item, ITEMS, p.least - 1, &plan, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "raise it"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exhaustive), cmocka_unit_test(test_budget)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
