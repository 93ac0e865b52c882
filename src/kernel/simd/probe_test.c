/* Probes do what they say: sweeps move every byte of their range and none outside, spins end where their sums do. */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/sys.h"
#include "kernel/probe.h"

enum { MAX = 4 * DAN_SWEEP_UNIT, RED = 128, ALL = MAX + 2 * RED };

static bool can(const struct dan_probe *p) { return (p->needs & dan_cpu_features()) == p->needs; }

/* Two areas with red zones around n bytes: all floats 2 in `to`, 0, 1, 2, ... mod 8 in `from`. */
static void fill(float *to, float *from)
{
    for (int i = 0; i < ALL / 4; i++) to[i] = 2, from[i] = (float)(i % 8);
}

static void expect(const struct dan_probe *p, int sweep, int64_t n, const float *to, const float *from, float sum)
{
    bool copies = sweep == DAN_SWEEP_COPY || sweep == DAN_SWEEP_COPY_PAST, writes = sweep == DAN_SWEEP_WRITE || sweep == DAN_SWEEP_WRITE_PAST;
    float want_sum = 0;
    for (int i = 0; i < ALL / 4; i++) {
        bool inside = i >= RED / 4 && i < RED / 4 + n / 4;
        float want = !inside ? 2 : copies ? (float)(i % 8) : writes ? 1 : sweep == DAN_SWEEP_UPDATE ? 2 + 3 : 2;
        if (to[i] != want) fail_msg("%s sweep %d of %d bytes: to[%d] = %g, expected %g", p->name, sweep, (int)n, i, (double)to[i], (double)want);
        if (from[i] != (float)(i % 8)) fail_msg("%s sweep %d wrote to its source", p->name, sweep);
        if (inside && sweep == DAN_SWEEP_READ) want_sum += 3 * from[i];
    }
    if (sum != want_sum) fail_msg("%s sweep %d: returned %g, expected %g", p->name, sweep, (double)sum, (double)want_sum);
}

static void sweeps(void **state)
{
    float *to = dan_huge_alloc(ALL), *from = dan_huge_alloc(ALL);
    (void)state;
    assert_true(to && from);
    for (int i = 0; dan_probes[i]; i++) {
        const struct dan_probe *p = dan_probes[i];
        if (p->kind != DAN_PROBE_MEMORY || !can(p)) continue;
        for (int s = 0; s < DAN_N_SWEEPS; s++)
            for (int64_t n = 0; p->sweep[s] && n <= MAX; n += DAN_SWEEP_UNIT) {
                fill(to, from);
                float sum = p->sweep[s](to + RED / 4, from + RED / 4, n, 3);
                expect(p, s, n, to, from, sum);
            }
    }
    dan_huge_free(to, ALL);
    dan_huge_free(from, ALL);
}

static void spins(void **state)
{
    (void)state;
    for (int i = 0; dan_probes[i]; i++) {
        const struct dan_probe *p = dan_probes[i];
        if (p->kind == DAN_PROBE_MEMORY || !can(p)) continue;
        assert_true(p->ops > 0);
        assert_non_null(p->spin);
        float none = p->spin(0), few = p->spin(50);
        if (p->kind == DAN_PROBE_F32) assert_true(few > 0 && few < 13 * 16);          /* every chain has run to 1 */
        else assert_true(few != none);                                                 /* sums have grown */
        assert_true(p->spin(50) == few);
    }
}

/* Every machine has f32 and memory; names are unique. */
static void table(void **state)
{
    int have[DAN_N_PROBES] = {0};
    (void)state;
    for (int i = 0; dan_probes[i]; i++) {
        if (can(dan_probes[i])) have[dan_probes[i]->kind]++;
        for (int k = 0; k < i; k++) assert_string_not_equal(dan_probes[i]->name, dan_probes[k]->name);
        for (int k = 0; k < i; k++)
            assert_false(dan_probes[i]->kind == dan_probes[k]->kind && dan_probes[i]->rank == dan_probes[k]->rank);
    }
    assert_true(have[DAN_PROBE_F32] > 0);
    assert_true(have[DAN_PROBE_MEMORY] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(sweeps), cmocka_unit_test(spins)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
