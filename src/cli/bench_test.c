/* The cases of `danlu bench ops`: every kernel of the program has one, every case builds and has work to do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "cli/bench.h"

static void cases_build(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++)
        for (const struct bench_case *c = bench_cases; c->op; c++) {
            struct bench_build x = {.d = c->d, .half = half};
            struct dan_err e = {0};
            struct dan_graph *g = dan_graph_new();
            dan_builder_init(&x.b, g);
            dan_ref y = c->build(&x);
            if (dan_builder_check(&x.b, &e)) fail_msg("%s %s: %s", c->op, c->note ? c->note : "", e.msg);
            assert_string_equal(g->node[y].op->name, c->op);
            struct dan_work w = dan_node_work(g, y);
            assert_true(w.read + w.write > 0);
            int dims = 0;
            for (const char *p = c->letters; *p; p++) dims += p == c->letters || p[-1] == ' ';
            assert_true(dims <= BENCH_DIMS && c->d[dims - 1] > 0 && (dims == BENCH_DIMS || c->d[dims] == 0));
            dan_graph_free(g);
        }
}

static void kernels_have_cases(void **state)
{
    (void)state;
    for (int i = 0; dan_kernels[i]; i++) {
        const struct bench_case *c = bench_cases;
        while (c->op && strcmp(c->op, dan_kernels[i]->op)) c++;
        if (!c->op) fail_msg("no case for op '%s' of kernel '%s'; add one to bench_cases.c", dan_kernels[i]->op, dan_kernels[i]->name);
    }
}

static void cases_stand_together(void **state)
{
    (void)state;
    for (const struct bench_case *c = bench_cases; c->op && c[1].op; c++)
        for (const struct bench_case *d = c + 1; d->op && strcmp(c->op, c[1].op); d++) assert_string_not_equal(c->op, d->op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cases_build), cmocka_unit_test(kernels_have_cases),
                                       cmocka_unit_test(cases_stand_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
