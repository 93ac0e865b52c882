/* One step over all parameters: against the optimiser's own loop on whole arrays, at odd sizes, any number of threads. */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "train/optim_step.h"

static const int64_t SIZES[] = {1, 7, 8191, 8192, 8193, 3, 40001, 16384, 0, 130};
enum { N_SPANS = sizeof SIZES / sizeof *SIZES, RED = 16, ARRAYS = 6 };           /* w, g, slots, ema */
static const float RED_VALUE = 12345;

struct world { struct dan_optim_span span[N_SPANS]; float *memory; size_t n; };

static struct world make(uint64_t seed)
{
    struct world w = {0};
    struct dan_rng r = {seed, 1, 0};
    for (int i = 0; i < N_SPANS; i++) w.n += ARRAYS * (size_t)(SIZES[i] + RED);
    w.memory = dan_malloc(w.n * sizeof *w.memory);
    float *at = w.memory;
    for (int i = 0; i < N_SPANS; i++) {
        float *array[ARRAYS];
        for (int k = 0; k < ARRAYS; k++) {
            array[k] = at;
            for (int64_t j = 0; j < SIZES[i]; j++)
                *at++ = k == 3 ? (float)dan_rng_uniform(&r) : (k < 2 ? 1 : 0.01f) * (float)dan_rng_normal(&r);
            for (int j = 0; j < RED; j++) *at++ = RED_VALUE;
        }
        w.span[i] = (struct dan_optim_span){array[0], {array[2], array[3], array[4]}, NULL, array[1], SIZES[i], i % 2 == 0, 0};
        if (i % 3) w.span[i].ema = array[5];
    }
    return w;
}

static void drop(struct world *w) { dan_free(w->memory); }

static bool same(const struct world *a, const struct world *b) { return memcmp(a->memory, b->memory, a->n * sizeof *a->memory) == 0; }

static const struct dan_optim_args ARGS = {
    .lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .momentum = 0.9, .step = 3};

static double step(struct world *w, const struct dan_optim *o, int threads, uint64_t cpu, double clip, bool apply)
{
    struct dan_pool *pool = NULL;
    struct dan_optim_plan p;
    struct dan_err e = {0};
    assert_int_equal(dan_pool_new(threads, &pool, &e), DAN_OK);
    assert_int_equal(dan_optim_plan_new(o, w->span, N_SPANS, cpu, &p, &e), DAN_OK);
    double norm = dan_optim_step(&p, pool, &ARGS, clip, 0.9, apply);
    dan_optim_plan_release(&p);
    dan_pool_free(pool);
    return norm;
}

static double plain_norm(const struct world *w)
{
    long double sum = 0;
    for (int i = 0; i < N_SPANS; i++)
        for (int64_t k = 0; w->span[i].g && k < w->span[i].n; k++) sum += (long double)w->span[i].g[k] * w->span[i].g[k];
    return (double)sqrtl(sum);
}

/* The same by the optimiser's loop over whole parameters. */
static void expect(struct world *w, const struct dan_optim *o, double scale)
{
    for (int i = 0; i < N_SPANS; i++) {
        struct dan_optim_span *s = &w->span[i];
        struct dan_optim_args a = ARGS;
        a.grad_scale = scale;
        if (!s->g) continue;
        if (s->rate > 0) a.lr *= s->rate;
        if (!s->decay) a.weight_decay = 0;
        o->update(s->w, s->g, s->slot, s->n, &a);
        for (int64_t k = 0; s->ema && k < s->n; k++) s->ema[k] = 0.9f * s->ema[k] + (float)(1 - 0.9) * s->w[k];
    }
}

static void whole(void **state)
{
    static const int threads[] = {1, 2, 3, 7};
    (void)state;
    for (int o = 0; dan_optims[o]; o++)
        for (int t = 0; t < 4; t++)
            for (int v = 0; v < 4; v++) {      /* clipping or not; plain or AVX2 */
                struct world got = make(5), want = make(5);
                double norm = plain_norm(&got), clip = v & 1 ? norm / 3 : 2 * norm;
                double n = step(&got, dan_optims[o], threads[t], v & 2 ? dan_cpu_features() : 0, clip, true);
                assert_float_equal(n, norm, 1e-12 * norm);
                expect(&want, dan_optims[o], v & 1 ? clip / (n + 1e-6) : 1);
                if (!same(&got, &want))
                    fail_msg("%s, %d threads, variant %d: other bits than the plain loop", dan_optims[o]->name, threads[t], v);
                drop(&got);
                drop(&want);
            }
}

/* The norm has the same bits for any number of threads and in both forms of the loop. */
static void norm_bits(void **state)
{
    struct world w = make(9);
    double first = step(&w, dan_optims[0], 1, 0, 1, false);
    (void)state;
    for (int t = 1; t <= 7; t++) {
        assert_true(step(&w, dan_optims[0], t, 0, 1, false) == first);
        assert_true(step(&w, dan_optims[0], t, dan_cpu_features(), 1, false) == first);
    }
    drop(&w);
}

static void untouched(void **state)
{
    (void)state;
    struct world got = make(4), want = make(4);
    step(&got, dan_optims[0], 2, dan_cpu_features(), 1, false);
    assert_true(same(&got, &want));
    float *g = (float *)(uintptr_t)got.span[6].g, *h = (float *)(uintptr_t)want.span[6].g;
    g[40000] = h[40000] = INFINITY;
    assert_true(isinf(step(&got, dan_optims[0], 3, dan_cpu_features(), 1, true)));
    assert_true(same(&got, &want));
    g[40000] = h[40000] = NAN;
    assert_true(isnan(step(&got, dan_optims[0], 3, 0, 0, true)));
    assert_int_equal(memcmp(got.span[6].w, want.span[6].w, sizeof(float) * 40001), 0);
    drop(&got);
    drop(&want);
}

/* Parameters with a learning rate of their own, and parameters that rest: not in the norm, no bit of them changes. */
static void rates_and_rest(void **state)
{
    (void)state;
    struct world got = make(6), want = make(6);
    const float *kept = got.span[2].g, *also = want.span[2].g;
    for (int i = 0; i < N_SPANS; i++) got.span[i].rate = want.span[i].rate = i % 2 ? 0.05 : 0;
    got.span[2].g = want.span[2].g = NULL;
    double norm = plain_norm(&got), n = step(&got, dan_optims[0], 3, dan_cpu_features(), 0, true);
    assert_float_equal(n, norm, 1e-12 * norm);
    expect(&want, dan_optims[0], 1);
    assert_true(same(&got, &want));
    got.span[2].g = kept;
    want.span[2].g = also;
    drop(&got);
    drop(&want);
}

static void empty(void **state)
{
    struct dan_optim_plan p;
    (void)state;
    assert_int_equal(dan_optim_plan_new(dan_optims[0], NULL, 0, 0, &p, NULL), DAN_OK);
    assert_true(dan_optim_step(&p, NULL, &ARGS, 1, 0, true) == 0);
    dan_optim_plan_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(norm_bits), cmocka_unit_test(untouched), cmocka_unit_test(rates_and_rest),
                                       cmocka_unit_test(empty)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
