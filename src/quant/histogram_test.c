/* Calibrators against sorted samples, brute force and a slow search written from the paper's words; golden values of scipy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "quant/histogram.h"

enum { N = 20000, BATCH = 1000 };

static float laplace(struct dan_rng *r)
{
    double u = dan_rng_uniform(r) - 0.5;
    return (float)((u < 0 ? 1 : -1) * log(1 - 2 * fabs(u)));
}

enum kind { NORMAL, SHIFTED, LAPLACE, ONE_SIDE, NEGATIVE, OUTLIER, CONSTANT, ZERO, GROWING, N_KINDS };

static void samples(enum kind kind, float *x)
{
    struct dan_rng r = {.seed = 5, .stream = kind};
    for (int i = 0; i < N; i++) {
        double n = dan_rng_normal(&r);
        switch (kind) {
        case SHIFTED: x[i] = (float)(n + 1.5); break;
        case LAPLACE: x[i] = laplace(&r); break;
        case ONE_SIDE: x[i] = (float)fmax(0, n); break;
        case NEGATIVE: x[i] = (float)-fabs(n) - 0.5f; break;
        case OUTLIER: x[i] = i == N / 2 ? 400.0f : (float)n; break;
        case CONSTANT: x[i] = 3.0f; break;
        case ZERO: x[i] = 0; break;
        case GROWING: x[i] = (float)(n * (1 + 4.0 * i / N)); break;
        default: x[i] = (float)n;
        }
    }
}

static struct dan_histogram fill(const float *x, int64_t batch)
{
    struct dan_histogram h;
    assert_int_equal(dan_histogram_init(&h, 0, NULL), 0);
    for (int64_t i = 0; i < N; i += batch) assert_int_equal(dan_histogram_add(&h, x + i, batch, "x", NULL), 0);
    return h;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static struct dan_range range(const struct dan_calibrator *c, const struct dan_histogram *h, struct dan_range_opts o)
{
    struct dan_range r;
    struct dan_err e = {0};
    if (c->range(h, &o, &r, &e)) fail_msg("%s", e.msg);
    return r;
}

static void test_histogram(void **state)
{
    (void)state;
    static float x[N];
    for (int kind = 0; kind < N_KINDS; kind++) {
        samples((enum kind)kind, x);
        struct dan_histogram h = fill(x, BATCH);
        assert_int_equal(h.count, N);
        uint64_t sum = 0;
        for (int64_t b = 0; b < h.n_bins; b++) sum += h.pos[b] + h.neg[b];
        assert_int_equal(sum, N);
        double top = fmax(-h.lo, h.hi);
        assert_true(h.width * (double)h.n_bins >= top * (1 - 1e-9) && h.n_bins <= 16384);
        if (kind == GROWING) assert_true(h.n_bins > 2048);
        uint64_t above = 0, want = 0;                  /* bins lie where they should */
        for (int64_t b = h.n_bins / 3; b < h.n_bins; b++) above += h.pos[b];
        for (int i = 0; i < N; i++) want += h.width > 0 && (double)x[i] >= h.width * (double)(h.n_bins / 3);
        if (llabs((long long)above - (long long)want) > 2) fail_msg("kind %d: %lld values, expected %lld", kind, (long long)above, (long long)want);
        dan_histogram_release(&h);
    }
}

static void test_extremes(void **state)
{
    (void)state;
    static float x[N];
    for (int kind = 0; kind < N_KINDS; kind++) {
        samples((enum kind)kind, x);
        struct dan_histogram h = fill(x, BATCH);
        double lo = (double)x[0], hi = lo, mean_lo = 0, mean_hi = 0;
        for (int i = 0; i < N; i += BATCH) {
            double l = (double)x[i], u = l;
            for (int k = i; k < i + BATCH; k++) l = fmin(l, (double)x[k]), u = fmax(u, (double)x[k]);
            lo = fmin(lo, l), hi = fmax(hi, u);
            mean_lo = i ? 0.99 * mean_lo + 0.01 * l : l;
            mean_hi = i ? 0.99 * mean_hi + 0.01 * u : u;
        }
        struct dan_range r = range(&dan_calibrator_minmax, &h, (struct dan_range_opts){0});
        assert_true(r.lo == lo && r.hi == hi);
        r = range(&dan_calibrator_average, &h, (struct dan_range_opts){0});
        assert_true(fabs(r.lo - mean_lo) < 1e-12 && fabs(r.hi - mean_hi) < 1e-12);
        dan_histogram_release(&h);
    }
}

/* Against the sorted samples: never below the exact value, and at most one bin above it. */
static void test_percentile(void **state)
{
    (void)state;
    static float x[N], a[N];
    static const double percent[] = {99.99, 99.9, 97, 75, 100};
    for (int kind = 0; kind < N_KINDS; kind++) {
        samples((enum kind)kind, x);
        struct dan_histogram h = fill(x, N);
        for (int i = 0; i < N; i++) a[i] = fabsf(x[i]);
        qsort(a, N, sizeof *a, ascending);
        qsort(x, N, sizeof *x, ascending);
        for (size_t k = 0; k < sizeof percent / sizeof *percent; k++) {
            double p = percent[k] / 100;
            struct dan_range r = range(&dan_calibrator_percentile, &h, (struct dan_range_opts){.percentile = percent[k]});
            double want = (double)a[(int)fmin(N - 1, ceil(p * N - 1e-6) - 1)];
            assert_true(r.lo == -r.hi && r.hi >= want - 1e-9 && r.hi <= want + h.width * 1.001 + 1e-9);
            r = range(&dan_calibrator_percentile, &h, (struct dan_range_opts){.percentile = percent[k], .asymmetric = true});
            int drop = (int)floor((1 - p) / 2 * N + 1e-6);
            double lo = (double)x[drop], hi = (double)x[N - 1 - drop];
            assert_true(r.hi >= hi - 1e-9 && r.hi <= hi + h.width * 1.001 + 1e-9);
            assert_true(r.lo <= lo + 1e-9 && r.lo >= lo - h.width * 1.001 - 1e-9);
        }
        dan_histogram_release(&h);
    }
    struct dan_histogram h = fill(x, N);
    struct dan_range r;
    assert_int_equal(dan_calibrator_percentile.range(&h, &(struct dan_range_opts){.percentile = 30}, &r, NULL), DAN_EINVAL);
    dan_histogram_release(&h);
}

/* --- KL: the definition, one thing after the other, nothing shared with the program */

static double slow_divergence(const uint64_t *bins, int n, int i, int levels)
{
    double *p = calloc((size_t)n, sizeof *p), *q = calloc((size_t)n, sizeof *q), sp = 0, sq = 0, kl = 0;
    for (int k = 0; k < i; k++) p[k] = (double)(k ? bins[k] : bins[1]);
    for (int l = 0; l < levels; l++) {                 /* before the clipped mass joins */
        double from = (double)l * i / levels, to = (double)(l + 1) * i / levels, mass = 0;
        int with = 0;
        for (int k = 0; k < i; k++)
            if (k >= from && k < to) mass += p[k], with += p[k] > 0;
        for (int k = 0; k < i; k++)
            if (k >= from && k < to && p[k] > 0) q[k] = mass / with;
    }
    for (int k = i; k < n; k++) p[i - 1] += (double)bins[k];
    for (int k = 0; k < i; k++) sp += p[k], sq += q[k];
    for (int k = 0; k < i; k++)
        if (p[k] > 0) kl += q[k] > 0 ? p[k] / sp * log(p[k] / sp / (q[k] / sq)) : INFINITY;
    free(p);
    free(q);
    return kl;
}

static void test_kl_slow(void **state)
{
    (void)state;
    static const struct { int n, levels, start; } sizes[] = {{200, 16, 20}, {300, 8, 128}, {150, 128, 128}};
    struct dan_kl_level tmp[128];
    struct dan_rng r = {.seed = 8};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int trial = 0; trial < 6; trial++) {
            uint64_t bins[300] = {0};
            int n = sizes[s].n, best = 0;
            double least = INFINITY;
            for (int i = 0; i < 4000; i++) bins[(int)fmin(n - 1, fabs((double)laplace(&r)) * n / (trial + 4))]++;
            if (trial == 2) bins[n - 1] += 50;
            for (int i = sizes[s].start; i <= n; i++) {
                double d = slow_divergence(bins, n, i, sizes[s].levels);
                if (d <= least) least = d, best = i;
            }
            int64_t got = dan_kl_bins(bins, n, sizes[s].start, 1, sizes[s].levels, tmp);
            if (got != best && fabs(slow_divergence(bins, n, (int)got, sizes[s].levels) - least) > 1e-12) fail_msg("%d, expected %d", (int)got, best);
        }
}

static void test_kl_golden(void **state)
{
    (void)state;
    char path[512];
    struct dan_kl_level tmp[256];
    snprintf(path, sizeof path, "%.*s/../../tests/golden/calibrators.json", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    json_error_t je;
    json_t *root = json_load_file(path, 0, &je), *c;
    if (!root) fail_msg("%s: %s", path, je.text);
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, c) {
        json_t *list = json_object_get(c, "bins");
        int64_t n = (int64_t)json_array_size(list), start = json_integer_value(json_object_get(c, "start"));
        uint64_t *bins = calloc((size_t)n, sizeof *bins);
        for (int64_t k = 0; k < n; k++) bins[k] = (uint64_t)json_integer_value(json_array_get(list, (size_t)k));
        int64_t got = dan_kl_bins(bins, n, start, 1, (int)json_integer_value(json_object_get(c, "levels")), tmp);
        if (got != json_integer_value(json_object_get(c, "keep")))
            fail_msg("%s: %lld, expected %lld", json_string_value(json_object_get(c, "name")), (long long)got,
                     (long long)json_integer_value(json_object_get(c, "keep")));
        free(bins);
    }
    assert_true(i >= 8);
    json_decref(root);
}

static void test_kl_range(void **state)
{
    (void)state;
    static float x[N];
    samples(LAPLACE, x);
    struct dan_histogram h = fill(x, N);
    struct dan_range r = range(&dan_calibrator_kl, &h, (struct dan_range_opts){0}), m = range(&dan_calibrator_minmax, &h, (struct dan_range_opts){0});
    assert_true(r.hi < 0.95 * fmax(-m.lo, m.hi) && r.lo == -r.hi);        /* clips what minmax keeps */
    struct dan_range both = range(&dan_calibrator_kl, &h, (struct dan_range_opts){.asymmetric = true});
    assert_true(both.lo == fmax(-r.hi, h.lo) && both.hi == fmin(r.hi, h.hi));
    dan_histogram_release(&h);
    samples(ONE_SIDE, x);                                             /* all levels on one side: another threshold */
    h = fill(x, N);
    struct dan_range one = range(&dan_calibrator_kl, &h, (struct dan_range_opts){.asymmetric = true});
    assert_true(one.lo == 0 && one.hi > 0 && one.hi <= h.hi);
    dan_histogram_release(&h);
    samples(OUTLIER, x);                                              /* known: with all others in bin 0, the outlier alone counts */
    h = fill(x, N);
    assert_true(h.n_bins <= 16384);
    dan_histogram_release(&h);
    samples(CONSTANT, x);
    h = fill(x, BATCH);
    assert_true(range(&dan_calibrator_kl, &h, (struct dan_range_opts){0}).hi == 3);
    dan_histogram_release(&h);
}

/* --- MSE: the samples themselves, every threshold */

static double true_error(const float *x, struct dan_range r, struct dan_range_opts o)
{
    float s, z;
    double sum = 0, top = ldexp(1, (o.bits ? o.bits : 8) - 1);
    dan_range_scale(&r, &o, &s, &z);
    for (int i = 0; i < N; i++) {
        double q = fmax(-top, fmin(top - 1, rint((double)x[i] / (double)s) + (double)z));
        double d = (double)x[i] - (double)s * (q - (double)z);
        sum += d * d;
    }
    return sum;
}

static void test_mse(void **state)
{
    (void)state;
    static float x[N];
    static const int bits[] = {8, 4, 3};
    for (int kind = 0; kind <= GROWING; kind++)
        for (int b = 0; b < 3 && kind != CONSTANT && kind != ZERO; b++) {
            struct dan_range_opts o = {.bits = bits[b]};
            samples((enum kind)kind, x);
            struct dan_histogram h = fill(x, N);
            struct dan_range r = range(&dan_calibrator_mse, &h, o);
            double least = INFINITY, best = 0, top = fmax(-h.lo, h.hi), got = true_error(x, r, o);
            for (int i = 1; i <= 256; i++) {
                double t = top * i / 256, err = true_error(x, (struct dan_range){-t, t}, o);
                if (err < least) least = err, best = t;
            }
            if (!(got <= least * 1.01)) fail_msg("kind %d, %d bits: error %g at %g, brute force %g at %g", kind, bits[b], got, r.hi, least, best);
            if (bits[b] == 4 && kind == NORMAL) assert_true(fabs(r.hi - best) < 0.06 * best);
            o.asymmetric = true;
            struct dan_range two = range(&dan_calibrator_mse, &h, o);
            assert_true(two.lo >= fmin(h.lo, 0) && two.hi <= fmax(h.hi, 0));
            double both = true_error(x, two, o), full = true_error(x, (struct dan_range){h.lo, h.hi}, o);
            assert_true(both <= full * 1.001);
            if (kind == SHIFTED || kind == ONE_SIDE || kind == NEGATIVE) assert_true(both < 0.9 * got);
            dan_histogram_release(&h);
        }
}

/* Every calibrator gives a usable scale for whatever comes. */
static void test_adversarial(void **state)
{
    (void)state;
    static float x[N];
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int c = 0; dan_calibrators[c]; c++)
            for (int a = 0; a < 2; a++) {
                samples((enum kind)kind, x);
                struct dan_histogram h = fill(x, BATCH);
                struct dan_range_opts o = {.asymmetric = a};
                struct dan_range r = range(dan_calibrators[c], &h, o);
                float s, z;
                dan_range_scale(&r, &o, &s, &z);
                assert_true(isfinite(s) && s > 0 && z == rintf(z) && z >= -128 && z <= 127);
                assert_true(a || z == 0);
                if (kind == ZERO) assert_true(s == 1);
                if (kind == CONSTANT) assert_true(fabs((double)s * (rint(3 / (double)s)) - 3) <= 3.0 / 2048);     /* a bin */
                if (kind == NEGATIVE && a) assert_true(z == 127);
                if (kind == ONE_SIDE && a) assert_true(z == -128);
                dan_histogram_release(&h);
            }
}

static void test_refusals(void **state)
{
    (void)state;
    struct dan_histogram h;
    struct dan_err e = {0};
    const struct dan_calibrator *c;
    float x[4] = {1, 2, NAN, 3};
    assert_int_equal(dan_histogram_init(&h, 0, NULL), 0);
    assert_int_equal(dan_histogram_add(&h, x, 4, "blk.0.ffn_up.weight", &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "value 2 of 4 that 'blk.0.ffn_up.weight' reads is"));
    x[2] = INFINITY;
    assert_int_equal(dan_histogram_add(&h, x, 4, "x", NULL), DAN_EINVAL);
    assert_int_equal(h.count, 0);
    x[2] = 1e-44f, x[0] = x[1] = x[3] = 0;             /* counts as nothing */
    assert_int_equal(dan_histogram_add(&h, x, 4, "x", NULL), 0);
    struct dan_range r = range(&dan_calibrator_mse, &h, (struct dan_range_opts){0});
    float s, z;
    dan_range_scale(&r, &(struct dan_range_opts){0}, &s, &z);
    assert_true(s == 1);
    dan_histogram_release(&h);
    e = (struct dan_err){0};
    assert_int_equal(dan_calibrator_find("entropi", &c, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "minmax, average, percentile, kl, mse"));
    assert_int_equal(dan_calibrator_find("kl", &c, NULL), 0);
    assert_ptr_equal(c, &dan_calibrator_kl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram), cmocka_unit_test(test_extremes), cmocka_unit_test(test_percentile), cmocka_unit_test(test_kl_slow),
        cmocka_unit_test(test_kl_golden), cmocka_unit_test(test_kl_range), cmocka_unit_test(test_mse), cmocka_unit_test(test_adversarial),
        cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
