/* Formats that only danlu has: levels by hand, and what an importance is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "core/dtype.h"

static const char *const grouped[] = {"i4_g32", "i4_g64", "i4_g128", "u4_g32", "u4_g64", "u4_g128"};

/* The value of largest magnitude becomes level -8 of a scale with its sign; halves go to even. */
static void i4_by_hand(void **state)
{
    float x[32] = {-16, 14, 1, 3, -1, 15.9f}, back[32];
    const float want[6] = {-16, 14, 0, 4, 0, 14};
    unsigned char b[18] __attribute__((aligned(2)));
    const struct dan_dtype *t = dan_dtype_find("i4_g32");
    (void)state;
    t->from_f32(x, b, 32);
    assert_memory_equal(b, "\x00\x40", 2);                     /* 2.0 in f16 */
    t->to_f32(b, back, 32);
    assert_memory_equal(back, want, sizeof want);
    x[0] = 16;
    t->from_f32(x, b, 32);
    assert_memory_equal(b, "\x00\xc0", 2);                     /* -2.0 */
    t->to_f32(b, back, 32);
    assert_true(back[0] == 16 && back[1] == 14 && back[4] == 0);
    assert_true(dan_dtype_find("i4_g32")->bytes == dan_dtype_find("q4_0")->bytes);
    dan_dtype_find("q4_0")->to_f32(b, x, 32);                  /* the same layout */
    assert_memory_equal(back, x, sizeof x);
}

static void u4_by_hand(void **state)
{
    float x[32] = {10, 25, 10.4f, 10.6f, 11.5f, 12.5f}, back[32];
    const float want[6] = {10, 25, 10, 11, 12, 12};
    unsigned char b[20] __attribute__((aligned(2)));
    (void)state;
    for (int i = 6; i < 32; i++) x[i] = 20;
    dan_dtype_find("u4_g32")->from_f32(x, b, 32);
    assert_memory_equal(b, "\x00\x3c\x00\x49", 4);             /* 1.0 and 10.0 */
    dan_dtype_find("u4_g32")->to_f32(b, back, 32);
    assert_memory_equal(back, want, sizeof want);
    dan_dtype_find("q4_1")->to_f32(b, x, 32);
    assert_memory_equal(back, x, sizeof x);
}

/* Each group of 64 keeps its largest magnitude to 1/510 of the block's. */
static void nf4_dq_keeps_the_largest(void **state)
{
    const struct dan_dtype *t = dan_dtype_find("nf4_dq");
    struct dan_rng r = {1, 0, 0};
    float x[256], back[256], most = 0;
    unsigned char b[134] __attribute__((aligned(2)));
    (void)state;
    for (int i = 0; i < 256; i++) x[i] = (float)dan_rng_normal(&r) * (float)(1 + i / 64);
    t->from_f32(x, b, 256);
    t->to_f32(b, back, 256);
    for (int i = 0; i < 256; i++) most = fmaxf(most, fabsf(x[i]));
    for (int g = 0; g < 4; g++) {
        float a = 0, c = 0;
        for (int i = 64 * g; i < 64 * g + 64; i++) a = fmaxf(a, fabsf(x[i])), c = fmaxf(c, fabsf(back[i]));
        assert_true(fabsf(a - c) <= most / 500);
    }
}

static double weighted_error(const float *x, const float *y, const float *w, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)w[i] * pow((double)x[i] - (double)y[i], 2);
    return sum;
}

/* Scales that are searched for have, on their own weights, not more error than the plain rule; on average clearly less. */
static void importance_pays(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof grouped / sizeof grouped[0]; k++) {
        const struct dan_dtype *t = dan_dtype_find(grouped[k]);
        struct dan_rng r = {2, 0, 0};
        double with = 0, without = 0;
        for (int n = 0; n < 200; n++) {
            float x[128], w[128], y[128];
            unsigned char b[128] __attribute__((aligned(2)));
            for (int i = 0; i < t->block; i++) {
                x[i] = (float)dan_rng_normal(&r) + (n % 3 == 0 ? 5 : 0);
                w[i] = (float)pow(dan_rng_normal(&r), 2);
            }
            t->from_f32(x, b, t->block);
            t->to_f32(b, y, t->block);
            double plain = weighted_error(x, y, w, t->block);
            t->from_f32_weighted(x, w, b, t->block);
            t->to_f32(b, y, t->block);
            double better = weighted_error(x, y, w, t->block);
            assert_true(better <= 1.02 * plain + 1e-3);        /* rounding of the scale to f16 may cost a little */
            with += better;
            without += plain;
        }
        print_message("%s: weighted squared error %.3f of the plain rule's\n", t->name, with / without);
        assert_true(with < 0.97 * without);
    }
}

static void importance_does_not_hide_what_is_broken(void **state)
{
    (void)state;
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; dan_dtypes[k]; k++) {
        const struct dan_dtype *t = dan_dtypes[k];
        if (!t->from_f32_weighted) continue;
        for (int i = 0; i < 6; i++) {
            float x[256] = {1, -2, 3}, w[256], y[256];
            unsigned char b[256] __attribute__((aligned(2)));
            for (int j = 0; j < 256; j++) w[j] = i < 3 ? 1 : 0;
            x[7] = odd[i % 3];
            t->from_f32_weighted(x, w, b, t->block);
            t->to_f32(b, y, t->block);
            assert_false(isfinite(y[7]));
            t->fit(x, w, b);
            t->put(b, 7, x[7]);
            t->to_f32(b, y, t->block);
            assert_false(isfinite(y[7]));
        }
    }
}

static void other_rows_take_the_fallback(void **state)
{
    static const struct { const char *name; int64_t n; const char *want; } cases[] = {
        {"q4_k", 512, "q4_k"}, {"q4_k", 288, "q5_0"}, {"q5_k", 288, "q5_1"}, {"q6_k", 96, "q8_0"}, {"q2_k", 96, "iq4_nl"}, {"q3_k", 96, "iq4_nl"},
        {"i4_g128", 192, "i4_g64"}, {"i4_g128", 96, "i4_g32"}, {"u4_g64", 96, "u4_g32"}, {"nf4_dq", 64, "nf4"}, {"nf4_dq", 96, "iq4_nl"}, {"q4_k", 40, NULL},
        {"f32", 7, "f32"}, {"i4_g32", 33, NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct dan_dtype *t = dan_dtype_for_rows(dan_dtype_find(cases[i].name), cases[i].n);
        if (cases[i].want) assert_string_equal(t ? t->name : "none", cases[i].want);
        else assert_null(t);
    }
    for (int k = 0; dan_dtypes[k]; k++)
        if (dan_dtypes[k]->fallback) assert_true(dan_dtype_find(dan_dtypes[k]->fallback)->block < dan_dtypes[k]->block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(i4_by_hand), cmocka_unit_test(u4_by_hand), cmocka_unit_test(nf4_dq_keeps_the_largest),
                                       cmocka_unit_test(importance_pays), cmocka_unit_test(importance_does_not_hide_what_is_broken),
                                       cmocka_unit_test(other_rows_take_the_fallback)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
