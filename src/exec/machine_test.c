/* The measured machine is whole and plausible; the roofline is its formula.  Nothing here depends on how fast the machine is. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>
#include "base/sys.h"
#include "exec/machine.h"
#include "kernel/probe.h"
#include "op/ops.h"

static struct dan_machine measure(int threads, uint64_t mask)
{
    struct dan_pool *pool = NULL;
    struct dan_machine m;
    struct dan_err e = {0};
    assert_int_equal(dan_pool_new(threads, &pool, &e), DAN_OK);
    struct dan_machine_opts o = {.pool = pool, .cpu_mask = mask, .seconds = 0.02, .memory_bytes = 48 << 20};
    assert_int_equal(dan_machine_measure(&o, &m, &e), DAN_OK);
    dan_pool_free(pool);
    return m;
}

static void check_whole(const struct dan_machine *m, int threads)
{
    assert_int_equal(m->threads[0], 1);
    assert_int_equal(m->threads[m->n_points - 1], threads);
    for (int i = 0; i < m->n_points; i++) {
        assert_true(i == 0 || m->threads[i] > m->threads[i - 1]);
        for (int k = 0; k < DAN_N_PEAKS; k++) {
            assert_true(isfinite(m->peak[k][i]) && m->peak[k][i] >= 0);
            assert_int_equal(m->peak[k][i] > 0, m->peak_by[k] != NULL);
        }
        assert_true(m->peak[DAN_PEAK_F32][i] > 0);
    }
    assert_non_null(m->moved_by);
    for (int f = 0; f < DAN_N_FLOWS; f++)
        for (int l = 0; l < DAN_N_LEVELS; l++)
            for (int i = 0; i < m->n_points; i++) {
                bool measured = i == 0 || i == m->n_points - 1;
                double x = m->bandwidth[f][l][i];
                assert_true(isfinite(x) && x >= 0 && (measured || x == 0));
                assert_true(!measured || l != DAN_LEVEL_MEMORY || x > 0);
            }
}

static void whole(void **state)
{
    (void)state;
    for (int t = 1; t <= 5; t += 2) {
        struct dan_machine m = measure(t, 0);
        check_whole(&m, t);
    }
}

/* Whether this build has a probe: without AVX (CONFIG=scalar) only the scalar ones. */
static bool has_probe(const char *name)
{
    for (int i = 0; dan_probes[i]; i++)
        if (strcmp(dan_probes[i]->name, name) == 0) return true;
    return false;
}

/* A mask takes probes away: no feature leaves the scalar ones. */
static void masked(void **state)
{
    (void)state;
    struct dan_machine m = measure(1, UINT64_C(1) << 63);
    check_whole(&m, 1);
    assert_non_null(strstr(m.peak_by[DAN_PEAK_F32], "scalar"));
    assert_non_null(strstr(m.moved_by, "scalar"));
    assert_null(m.peak_by[DAN_PEAK_BF16]);
    assert_float_equal(dan_machine_peak(&m, DAN_PEAK_BF16, 1), m.peak[DAN_PEAK_F32][0], 0);
    if (!(dan_cpu_features() & DAN_CPU_AVX2) || !has_probe("memory_avx2")) return;
    m = measure(1, DAN_CPU_AVX2);
    assert_string_equal(m.moved_by, "memory_avx2");
}

/* A machine of round numbers: 1, 2 and 4 threads; no L3. */
static struct dan_machine made(void)
{
    struct dan_machine m = {.n_points = 3, .threads = {1, 2, 4}, .cache = {1000, 10000, 0, 0}};
    m.peak[DAN_PEAK_F32][0] = 100, m.peak[DAN_PEAK_F32][1] = 180, m.peak[DAN_PEAK_F32][2] = 300;
    m.peak[DAN_PEAK_BF16][0] = 1000, m.peak[DAN_PEAK_BF16][1] = 1800, m.peak[DAN_PEAK_BF16][2] = 3000;
    for (int f = 0; f < DAN_N_FLOWS; f++)
        for (int l = 0; l < DAN_N_LEVELS; l++)
            for (int i = 0; i < 3; i += 2)
                if (l != DAN_LEVEL_L3) m.bandwidth[f][l][i] = (f + 1) * (l == 0 ? 100 : l == 1 ? 40 : 10) * (i ? 2 : 1);
    return m;
}

static void bound_is(const struct dan_machine *m, struct dan_work w, int threads, double seconds, const char *binds)
{
    struct dan_bound b = dan_machine_bound(m, &w, threads);
    assert_float_equal(b.seconds, seconds, 1e-9 * seconds);
    assert_string_equal(b.binds, binds);
}

static void roofline(void **state)
{
    struct dan_machine m = made();
    (void)state;
    assert_float_equal(dan_machine_peak(&m, DAN_PEAK_F32, 3), 240, 1e-9);              /* between 180 and 300 */
    assert_float_equal(dan_machine_peak(&m, DAN_PEAK_F32, 9), 300, 0);
    assert_float_equal(dan_machine_peak(&m, DAN_PEAK_INT8, 1), 100, 0);
    bound_is(&m, (struct dan_work){.flops = 1000, .read = 10}, 1, 10, "f32");
    bound_is(&m, (struct dan_work){.peak = DAN_PEAK_BF16, .flops = 1000, .read = 10}, 1, 1, "bf16");
    bound_is(&m, (struct dan_work){.read = 500}, 1, 5, "L1");                          /* 500 bytes at 100 a second */
    bound_is(&m, (struct dan_work){.write = 500}, 1, 2.5, "L1");
    bound_is(&m, (struct dan_work){.read = 5000}, 1, 125, "L2");
    bound_is(&m, (struct dan_work){.read = 2000}, 4, 2000.0 / 200, "L1");              /* a thread's share is 500 */
    bound_is(&m, (struct dan_work){.read = 2000}, 2, 50 / (1 + 1.0 / 3), "L2");        /* bandwidth between 40 and 80 */
    bound_is(&m, (struct dan_work){.read = 50000}, 1, 5000, "memory");                 /* no L3 */
    bound_is(&m, (struct dan_work){.read = 40000, .write = 10000}, 1, 20000.0 / 30 + 30000.0 / 10, "memory");
    bound_is(&m, (struct dan_work){.update = 40000, .read = 10000}, 1, 80000.0 / 40 + 10000.0 / 10, "memory");
    bound_is(&m, (struct dan_work){.read = 500, .footprint = 1e6}, 1, 50, "memory");
    struct dan_bound none = dan_machine_bound(&m, &(struct dan_work){0}, 1);
    assert_true(none.seconds == 0 && none.binds != NULL);
}

static void node_work(void **state)
{
    struct dan_graph *g = dan_graph_new();
    struct dan_builder b;
    (void)state;
    dan_builder_init(&b, g);
    dan_ref x = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(6, 8), 0), w = dan_input(&b, "w", &dan_dtype_f32, DAN_SHAPE(4, 8), 0);
    dan_ref y = dan_linear(&b, x, w, 0), ids = dan_input(&b, "ids", &dan_dtype_i32, DAN_SHAPE(2), 0);
    dan_ref table = dan_input(&b, "table", &dan_dtype_f32, DAN_SHAPE(1000, 8), 0), row = dan_embed(&b, table, ids);
    dan_ref cache = dan_state(&b, "cache", &dan_dtype_f32, DAN_SHAPE(500, 8)), written = dan_kv_write(&b, cache, row, ids);
    assert_int_equal(dan_builder_check(&b, NULL), DAN_OK);
    struct dan_work k = dan_node_work(g, written);
    assert_float_equal(k.write, 4 * 16, 0);    /* two rows, not the cache */
    assert_true(k.read <= 4 * 16 + 8);
    struct dan_work m = dan_node_work(g, y), r = dan_node_work(g, row);
    assert_float_equal(m.flops, 2 * 6 * 4 * 8, 0);
    assert_float_equal(m.read, 4 * (48 + 32), 0);
    assert_float_equal(m.write, 4 * 24, 0);
    assert_int_equal(m.peak, DAN_PEAK_F32);
    g->node[y].attr[DAN_MATMUL_PREC].i = DAN_PREC_BF16;
    assert_int_equal(dan_node_work(g, y).peak, DAN_PEAK_BF16);
    assert_float_equal(r.write, 4 * 16, 0);
    assert_true(r.read < 4 * 1000);            /* two rows and their ids, not the table */
    dan_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(masked), cmocka_unit_test(roofline),
                                       cmocka_unit_test(node_work)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
