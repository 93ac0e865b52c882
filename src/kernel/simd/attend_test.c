/* attend kernels: the bits of a row do not depend on which rows share its call (prefill equals decode) nor on
 * where its sequence lies in the cache. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "core/args.h"
#include "op/attrs.h"

struct problem { int64_t rows, keys, heads, kv, d, window; };

static float *randoms(int64_t n, uint64_t seed)
{
    struct dan_rng rng = {.seed = seed};
    float *x = dan_calloc((size_t)n + 32, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)dan_rng_normal(&rng);
    return x;
}

/* Rows [first, first + n) of q against a cache in which the sequence starts at row `base`. */
static void run_rows(const struct dan_kernel *k, const struct problem *p, const float *q, const float *keys, const float *values,
                     int64_t base, int64_t first, int64_t n, float *o, float *lse)
{
    int32_t *range = dan_calloc((size_t)n, 3 * sizeof *range);
    for (int64_t i = 0; i < n; i++) {
        int64_t self = p->keys - p->rows + first + i;              /* the rows are the last of the sequence */
        range[3 * i] = (int32_t)base;
        range[3 * i + 1] = (int32_t)(base + (p->window && self + 1 > p->window ? self + 1 - p->window : 0));
        range[3 * i + 2] = (int32_t)(base + self + 1);
    }
    int64_t c = p->heads * p->d, ck = p->kv * p->d;
    const struct dan_tensor in[] = {
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, c), (void *)(uintptr_t)(q + first * c)),
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(base + p->keys, ck), (void *)(uintptr_t)keys),
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(base + p->keys, ck), (void *)(uintptr_t)values),
        dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n, 3), range),
    };
    const struct dan_tensor out[] = {
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, c), o + first * c),
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, p->heads), lse + first * p->heads),
    };
    const union dan_attr attr[DAN_MAX_ATTR] = {{.i = p->heads}, {.i = p->kv}, {.f = 1 / sqrt((double)p->d)}};
    struct dan_args a = {.in = in, .out = out, .attr = attr, .n_in = 4, .n_out = 2, .ith = 0, .nth = 1};
    assert_true(k->accepts(&a));
    char *ws = dan_malloc(k->workspace(&a, 1) + 64);
    a.ws = (void *)(((uintptr_t)ws + 63) / 64 * 64);
    k->run(&a);
    dan_free(ws);
    dan_free(range);
}

static void check(const struct dan_kernel *k, const struct problem *p)
{
    const int64_t shift = 37, c = p->heads * p->d, ck = p->kv * p->d;
    float *q = randoms(p->rows * c, 1), *keys = randoms((shift + p->keys) * ck, 2), *values = randoms((shift + p->keys) * ck, 3);
    float *o[3], *lse[3];
    for (int i = 0; i < 3; i++) o[i] = randoms(p->rows * c, 9), lse[i] = randoms(p->rows * p->heads, 9);
    run_rows(k, p, q, keys + shift * ck, values + shift * ck, 0, 0, p->rows, o[0], lse[0]);
    run_rows(k, p, q, keys, values, shift, 0, p->rows, o[1], lse[1]);
    for (int64_t r = 0; r < p->rows; r++) run_rows(k, p, q, keys, values, shift, r, 1, o[2], lse[2]);
    for (int i = 1; i < 3; i++) {
        assert_memory_equal(o[0], o[i], (size_t)(p->rows * c) * sizeof(float));
        assert_memory_equal(lse[0], lse[i], (size_t)(p->rows * p->heads) * sizeof(float));
    }
    for (int i = 0; i < 3; i++) dan_free(o[i]), dan_free(lse[i]);
    dan_free(q);
    dan_free(keys);
    dan_free(values);
}

static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    static const struct problem problems[] = {
        {70, 70, 2, 2, 32, 0}, {150, 200, 4, 2, 64, 0}, {33, 100, 8, 1, 6, 0},
        {40, 140, 3, 3, 16, 50}, {7, 65, 2, 1, 80, 0}, {66, 130, 1, 1, 40, 3},
    };
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strcmp(k->op, "attend") || (k->needs & dan_cpu_features()) != k->needs) continue;
        for (size_t j = 0; j < sizeof problems / sizeof problems[0]; j++) check(k, &problems[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_do_not_depend_on_their_neighbours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
