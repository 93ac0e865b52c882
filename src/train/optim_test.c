/* Optimisers against torch.optim (tests/golden/optim.safetensors) and schedules against their formulas. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "io/safetensors.h"
#include "train/optim.h"
#include "train/schedule.h"

static struct dan_store *golden;

static int load(void **state)
{
    struct dan_err e = {0};
    const char *dir = getenv("DANLU_GOLDEN");
    char path[300];
    (void)state;
    snprintf(path, sizeof path, "%s/optim.safetensors", dir ? dir : "tests/golden");
    if (dan_safetensors_open(path, &golden, &e)) fprintf(stderr, "%s\n", e.msg);
    return golden ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    dan_store_free(golden);
    return 0;
}

static void trace(const char *optim, const char *expected, struct dan_optim_args a)
{
    enum { N = 13, STEPS = 20 };
    const struct dan_tensor *x = dan_store_find(golden, expected);
    const float *grads = dan_store_find(golden, "grads")->data, *want = x->data;
    float w[N], slots[DAN_MAX_SLOTS][N] = {{0}}, *slot[DAN_MAX_SLOTS] = {slots[0], slots[1], slots[2]};
    memcpy(w, dan_store_find(golden, "x0")->data, sizeof w);
    for (int s = 0; s < STEPS; s++) {
        a.step = s + 1;
        a.grad_scale = 1;
        dan_optim_find(optim)->update(w, grads + s * N, slot, N, &a);
        for (int i = 0; i < N; i++)
            if (fabsf(w[i] - want[s * N + i]) > 1e-5f * (1 + fabsf(want[s * N + i]))) fail_msg("%s step %d [%d]: %g, expected %g", optim, s + 1, i, (double)w[i], (double)want[s * N + i]);
    }
}

static void adamw(void **state)
{
    (void)state;
    trace("adamw", "adamw.x", (struct dan_optim_args){.lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1});
}

static void sgd(void **state)
{
    (void)state;
    trace("sgd", "sgd_momentum.x", (struct dan_optim_args){.lr = 0.01, .momentum = 0.9});
    trace("sgd", "sgd_nesterov.x", (struct dan_optim_args){.lr = 0.01, .momentum = 0.9, .nesterov = true});
}

static double at(const char *name, int64_t step)
{
    struct dan_schedule_args a = {1e-3, 1e-4, 100, 1100, 0.2};
    return dan_schedule_at(dan_schedule_find(name), &a, step);
}

static void schedules(void **state)
{
    const char *names[] = {"cosine", "linear", "wsd"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_float_equal(at(names[i], 0), 1e-3 / 101, 1e-12);      /* nanoGPT: lr (it + 1) / (warmup + 1) */
        assert_float_equal(at(names[i], 100), 1e-3, 1e-12);
        assert_float_equal(at(names[i], 1100), 1e-4, 1e-12);
        for (int64_t s = 101; s < 1100; s++) assert_true(at(names[i], s) <= at(names[i], s - 1) + 1e-15);
    }
    assert_float_equal(at("cosine", 600), 5.5e-4, 1e-12);
    assert_float_equal(at("linear", 600), 5.5e-4, 1e-12);
    assert_float_equal(at("wsd", 899), 1e-3, 1e-12);
    assert_float_equal(at("wsd", 950), 1e-4 + 9e-4 * (1 - sqrt(0.25)), 1e-9);
    assert_float_equal(at("constant", 1099), 1e-3, 1e-12);
    for (int i = 0; dan_schedules[i]; i++) assert_ptr_equal(dan_schedule_find(dan_schedules[i]->name), dan_schedules[i]);
    assert_null(dan_schedule_find("nosuch"));
    assert_null(dan_optim_find("nosuch"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(adamw), cmocka_unit_test(sgd), cmocka_unit_test(schedules)};
    return cmocka_run_group_tests(tests, load, unload);
}
