#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "core/dtype.h"

enum { N = 1 << 14 };

struct scratch { float x[N], y[N], back[N]; unsigned char a[8 * N], b[8 * N], c[8 * N]; };

static int make_scratch(void **state)
{
    struct scratch *s = test_malloc(sizeof *s);
    struct dan_rng r = {11, 0, 0};
    for (int i = 0; i < N; i++) {
        s->x[i] = (float)dan_rng_normal(&r);
        s->y[i] = (float)dan_rng_normal(&r);
    }
    *state = s;
    return 0;
}

static int free_scratch(void **state)
{
    test_free(*state);
    return 0;
}

static void table_is_consistent(void **state)
{
    (void)state;
    for (const struct dan_dtype *const *p = dan_dtypes; *p; p++) {
        const struct dan_dtype *t = *p;
        assert_true(t->block > 0 && t->bytes > 0 && t->to_f32);
        assert_true(t->from_f32 ? t->max_rmse > 0 || t->block == 1 : t->max_rmse == 0 && t->block > 1);      /* some are only read */
        assert_int_equal(!t->dot, !t->dot_with);
        assert_ptr_equal(dan_dtype_find(t->name), t);
        if (t->safetensors) assert_ptr_equal(dan_dtype_find_safetensors(t->safetensors), t);
        for (const struct dan_dtype *const *q = dan_dtypes; q < p; q++)
            assert_true(t->gguf_id < 0 || (*q)->gguf_id != t->gguf_id);
    }
    assert_null(dan_dtype_find("f33"));
    assert_null(dan_dtype_find_safetensors("Q8_0"));
    assert_int_equal(dan_dtype_bytes(&dan_dtype_q8_0, 64), 68);
}

/* Each format keeps its promise on normal data, and storing twice changes nothing. */
static void error_is_as_promised(void **state)
{
    struct scratch *s = *state;
    for (const struct dan_dtype *const *p = dan_dtypes; *p; p++) {
        const struct dan_dtype *t = *p;
        double sum = 0;
        if (!t->from_f32) continue;
        t->from_f32(s->x, s->a, N);
        t->to_f32(s->a, s->back, N);
        for (int i = 0; i < N; i++) sum += pow((double)s->back[i] - s->x[i], 2);
        double rmse = sqrt(sum / N);
        print_message("%s: rmse %.6f, promised %.6f\n", t->name, rmse, (double)t->max_rmse);
        assert_true(rmse <= (double)t->max_rmse);
        assert_true(rmse >= 0.7 * (double)t->max_rmse);        /* an honest promise is a tight one */
        if (t->block > 1) continue;                            /* a scale rounds again */
        t->from_f32(s->back, s->b, N);
        assert_memory_equal(s->a, s->b, dan_dtype_bytes(t, N));
    }
}

static void dot_is_the_dot_of_what_is_stored(void **state)
{
    struct scratch *s = *state;
    const int64_t n = 4096;
    for (const struct dan_dtype *const *p = dan_dtypes; *p; p++) {
        const struct dan_dtype *t = *p;
        if (!t->dot) continue;
        double want = 0, size = 0;
        t->from_f32(s->x, s->a, n);
        t->dot_with->from_f32(s->y, s->b, n);
        t->to_f32(s->a, s->back, n);
        t->dot_with->to_f32(s->b, (float *)(void *)s->c, n);
        for (int64_t i = 0; i < n; i++) {
            double term = (double)s->back[i] * ((float *)(void *)s->c)[i];
            want += term;
            size += fabs(term);
        }
        assert_true(fabs((double)t->dot(s->a, s->b, n) - want) <= 1e-7 * size);
        assert_true(t->dot(s->a, s->b, 0) == 0);
    }
}

/* By hand: 127 / 127 = 1 is the scale; halves go away from zero, as in ggml. */
static void q8_0_by_hand(void **state)
{
    (void)state;
    float x[32] = {127, -127, 0.5f, -0.5f, 1.5f, 2.49f, -2.5f}, back[32];
    const signed char want[7] = {127, -127, 1, -1, 2, 2, -3};
    unsigned char b[34] __attribute__((aligned(2)));
    dan_dtype_q8_0.from_f32(x, b, 32);
    assert_memory_equal(b, "\x00\x3c", 2);                     /* 1.0 in f16 */
    assert_memory_equal(b + 2, want, 7);
    memset(x, 0, sizeof x);
    dan_dtype_q8_0.from_f32(x, b, 32);
    dan_dtype_q8_0.to_f32(b, back, 32);
    assert_memory_equal(back, x, sizeof x);
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {                              /* must not hide */
        x[5] = odd[i];
        dan_dtype_q8_0.from_f32(x, b, 32);
        dan_dtype_q8_0.to_f32(b, back, 32);
        assert_false(isfinite(back[5]));
    }
    x[5] = 1e-44f;
    dan_dtype_q8_0.from_f32(x, b, 32);
    dan_dtype_q8_0.to_f32(b, back, 32);
    assert_true(back[5] == 0);
}

/* What is not finite must not come back as a number, in whichever format. */
static void broken_values_do_not_hide(void **state)
{
    (void)state;
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (const struct dan_dtype *const *p = dan_dtypes; *p; p++) {
        const struct dan_dtype *t = *p;
        if (t->block == 1 || !t->from_f32) continue;
        for (int i = 0; i < 9; i++) {
            float x[256] = {1, -2, 3}, back[256];
            unsigned char b[256] __attribute__((aligned(2)));
            x[i / 3 * 7] = odd[i % 3];
            t->from_f32(x, b, t->block);
            t->to_f32(b, back, t->block);
            assert_false(isfinite(back[i / 3 * 7]));
        }
    }
}

static void integers_saturate(void **state)
{
    (void)state;
    const float x[] = {1e30f, -1e30f, NAN, 2.5f, -2.5f, 127.4f, -128.6f};
    int8_t a[7];
    int32_t b[7];
    int64_t c[7];
    dan_dtype_i8.from_f32(x, a, 7);
    dan_dtype_i32.from_f32(x, b, 7);
    dan_dtype_i64.from_f32(x, c, 7);
    const int8_t want[7] = {127, -128, 0, 3, -3, 127, -128};
    assert_memory_equal(a, want, 7);
    assert_true(b[0] == INT32_MAX && b[1] == INT32_MIN && b[2] == 0 && b[3] == 3 && b[6] == -129);
    assert_true(c[0] == INT64_MAX && c[1] == INT64_MIN && c[2] == 0 && c[3] == 3 && c[6] == -129);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_consistent),
        cmocka_unit_test_setup_teardown(error_is_as_promised, make_scratch, free_scratch),
        cmocka_unit_test_setup_teardown(dot_is_the_dot_of_what_is_stored, make_scratch, free_scratch),
        cmocka_unit_test(q8_0_by_hand),
        cmocka_unit_test(broken_values_do_not_hide),
        cmocka_unit_test(integers_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
