/* Rounding by hand: fit, then put of every element, against from_f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/rng.h"
#include "core/dtype.h"

enum { MOST = 256, BLOCKS = 400 };

struct one { float x[MOST], a[MOST], b[MOST]; unsigned char whole[4 * MOST], by_hand[4 * MOST]; };

static void fill(struct dan_rng *r, float *x, int n, int kind)
{
    for (int i = 0; i < n; i++) {
        float z = (float)dan_rng_normal(r);
        x[i] = kind % 8 == 0 ? fabsf(z) : kind % 8 == 1 ? -fabsf(z) : kind % 8 == 2 ? z * 1e-4f : kind % 8 == 3 && i == 5 ? 50 * z : z;
    }
}

/* Values of both ways; *worse counts elements that put leaves farther from x than from_f32 does. */
static int differ(const struct dan_dtype *t, struct one *o, int *worse)
{
    memset(o->by_hand, 0xff, sizeof o->by_hand);
    t->from_f32(o->x, o->whole, t->block);
    t->fit(o->x, NULL, o->by_hand);
    for (int i = t->block - 1; i >= 0; i--) o->a[i] = t->put(o->by_hand, i, o->x[i]);      /* in any order */
    t->to_f32(o->by_hand, o->b, t->block);
    assert_memory_equal(o->a, o->b, t->block * sizeof *o->a);
    t->to_f32(o->whole, o->b, t->block);
    for (int i = 0; i < t->block; i++) *worse += fabsf(o->a[i] - o->x[i]) > fabsf(o->b[i] - o->x[i]) * 1.00001f + 1e-7f;
    int other = 0;
    for (int i = 0; i < t->block; i++) other |= o->a[i] != o->b[i];
    return other;
}

/* ggml's formats of 32 take levels from a scale that is not yet rounded to f16: put, which knows the rounded one, may come nearer. */
static bool may_differ(const struct dan_dtype *t) { return t->block == 32 && t->gguf_id >= 0; }

static void put_is_from_f32_or_nearer(void **state)
{
    (void)state;
    for (int k = 0; dan_dtypes[k]; k++) {
        const struct dan_dtype *t = dan_dtypes[k];
        struct dan_rng r = {3, 0, 0};
        struct one o;
        int other = 0, worse = 0;
        if (!t->fit) continue;
        for (int i = 0; i < BLOCKS; i++) {
            fill(&r, o.x, t->block, i);
            other += differ(t, &o, &worse);
        }
        print_message("%s: %d of %d blocks differ, %d elements worse\n", t->name, other, BLOCKS, worse);
        assert_int_equal(worse, 0);
        if (!may_differ(t)) assert_int_equal(other, 0);
    }
}

/* With a scale that f16 holds, to the byte: x of whole multiples of 2^-7 between the ends that make it so. */
static void put_is_from_f32_where_the_scale_is_exact(void **state)
{
    static const struct { const char *name; float first, second; } ends[] = {
        {"q8_0", 127, 0}, {"q4_0", -8, 0}, {"q4_1", -2, 13}, {"q5_0", -16, 0}, {"q5_1", -2, 29}};
    (void)state;
    for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
        const struct dan_dtype *t = dan_dtype_find(ends[k].name);
        struct dan_rng r = {5, 0, 0};
        struct one o = {.x = {0}};
        int worse = 0;
        for (int n = 0; n < BLOCKS; n++) {
            for (int i = 0; i < t->block; i++) o.x[i] = (float)((int)dan_rng_below(&r, 256) - (ends[k].second > 0 ? 0 : 128)) / 128;
            o.x[7] = ends[k].first;
            o.x[9] = ends[k].second;
            if (differ(t, &o, &worse) || memcmp(o.whole, o.by_hand, t->bytes)) fail_msg("%s", t->name);
        }
    }
}

static void every_writable_block_format_can(void **state)
{
    (void)state;
    for (int k = 0; dan_dtypes[k]; k++) {
        const struct dan_dtype *t = dan_dtypes[k];
        assert_int_equal(!t->fit, !t->put);
        if (t->block > 1 && t->from_f32) assert_non_null(t->fit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(put_is_from_f32_or_nearer), cmocka_unit_test(put_is_from_f32_where_the_scale_is_exact),
                                       cmocka_unit_test(every_writable_block_format_can)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
