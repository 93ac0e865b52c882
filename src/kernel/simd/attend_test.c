/* attend kernels: the bits of a row do not depend on which rows share its call (prefill equals decode) nor on
 * where its sequence lies in the cache.  attend and attend_grad on documents of several blocks (the table test has
 * short ones): against the references on the same numbers, the same bits from any number of threads, dk and dv
 * written for keys that nobody sees. */
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
#include "base/threads.h"
#include "core/args.h"
#include "graph/graph.h"
#include "op/attrs.h"

struct problem { int64_t rows, keys, heads, kv, d, window; };

static void *randoms(const struct dan_dtype *t, int64_t n, uint64_t seed)
{
    struct dan_rng rng = {.seed = seed};
    char *x = dan_calloc((size_t)n + 32, t->bytes);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        float v = (float)dan_rng_normal(&rng);
        t->from_f32(&v, x + i * t->bytes, 1);
    }
    return x;
}

static void *at(const struct dan_dtype *t, const void *x, int64_t i) { return (char *)(uintptr_t)x + i * t->bytes; }

/* Rows [first, first + n) of q against a cache in which the sequence starts at row `base`; all but lse stored as t. */
static bool run_rows(const struct dan_kernel *k, const struct dan_dtype *t, const struct problem *p, const void *q, const void *keys,
                     const void *values, int64_t base, int64_t first, int64_t n, void *o, float *lse)
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
        dan_tensor_of(t, DAN_SHAPE(n, c), at(t, q, first * c)),
        dan_tensor_of(t, DAN_SHAPE(base + p->keys, ck), at(t, keys, 0)),
        dan_tensor_of(t, DAN_SHAPE(base + p->keys, ck), at(t, values, 0)),
        dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n, 3), range),
    };
    const struct dan_tensor out[] = {
        dan_tensor_of(t, DAN_SHAPE(n, c), at(t, o, first * c)),
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, p->heads), lse + first * p->heads),
    };
    const union dan_attr attr[DAN_MAX_ATTR] = {{.i = p->heads}, {.i = p->kv}, {.f = 1 / sqrt((double)p->d)}};
    struct dan_args a = {.in = in, .out = out, .attr = attr, .n_in = 4, .n_out = 2, .ith = 0, .nth = 1};
    bool takes = (t == &dan_dtype_f32 || k->half) && k->accepts(&a);
    if (takes) {
        char *ws = dan_malloc(k->workspace(&a, 1) + 64);
        a.ws = (void *)(((uintptr_t)ws + 63) / 64 * 64);
        k->run(&a);
        dan_free(ws);
    }
    dan_free(range);
    return takes;
}

/* Whether the kernel takes this problem. */
static bool check(const struct dan_kernel *k, const struct dan_dtype *t, const struct problem *p)
{
    const int64_t shift = 37, c = p->heads * p->d, ck = p->kv * p->d;
    void *q = randoms(t, p->rows * c, 1), *keys = randoms(t, (shift + p->keys) * ck, 2), *values = randoms(t, (shift + p->keys) * ck, 3);
    void *o[3];
    float *lse[3];
    for (int i = 0; i < 3; i++) o[i] = randoms(t, p->rows * c, 9), lse[i] = randoms(&dan_dtype_f32, p->rows * p->heads, 9);
    bool takes = run_rows(k, t, p, q, at(t, keys, shift * ck), at(t, values, shift * ck), 0, 0, p->rows, o[0], lse[0]);
    run_rows(k, t, p, q, keys, values, shift, 0, p->rows, o[1], lse[1]);
    for (int64_t r = 0; r < p->rows; r++) run_rows(k, t, p, q, keys, values, shift, r, 1, o[2], lse[2]);
    for (int i = 1; i < 3; i++) {
        assert_memory_equal(o[0], o[i], (size_t)(p->rows * c) * t->bytes);
        assert_memory_equal(lse[0], lse[i], (size_t)(p->rows * p->heads) * sizeof(float));
    }
    for (int i = 0; i < 3; i++) dan_free(o[i]), dan_free(lse[i]);
    dan_free(q);
    dan_free(keys);
    dan_free(values);
    return takes;
}

static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    static const struct problem problems[] = {
        {70, 70, 2, 2, 32, 0}, {150, 200, 4, 2, 64, 0}, {33, 100, 8, 1, 6, 0},
        {40, 140, 3, 3, 16, 50}, {7, 65, 2, 1, 80, 0}, {66, 130, 1, 1, 40, 3},
        {300, 420, 2, 1, 24, 0},
    };
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strcmp(k->op, "attend") || (k->needs & dan_cpu_features()) != k->needs) continue;
        for (size_t j = 0; j < sizeof problems / sizeof problems[0]; j++)
            assert_true((int)check(k, &dan_dtype_f32, &problems[j]) | (int)check(k, &dan_dtype_bf16, &problems[j]));
    }
}

/* ---- long documents --------------------------------------------------------------------------------------- */

enum { N_POOLS = 4, N_IN = 7, N_OUT = 5, RED = 64 };
static const int pool_size[N_POOLS] = {1, 2, 3, 7};
static struct dan_pool *pools[N_POOLS];

/* Documents of `time` rows, the last cut short; before each there are `gap` keys that nobody sees. */
struct pack { int64_t rows, time, gap, heads, kv, d; enum dan_mask mask; int64_t width; };

/* q, k, v, range, o, lse, do, then o, lse, dq, dk, dv.  q, k, v lie in one buffer, and dq, dk, dv in another. */
struct data { struct dan_tensor in[N_IN], out[N_OUT]; void *memory[6]; int64_t bytes[6]; };

static int64_t n_keys(const struct pack *p) { return p->rows + (p->rows + p->time - 1) / p->time * p->gap; }

static void fill_ranges(const struct pack *p, int32_t *r)
{
    for (int64_t i = 0; i < p->rows; i++, r += 3) {
        int64_t doc = i / p->time, start = doc * (p->time + p->gap) + p->gap, self = start + i % p->time;
        int64_t stop = start + (p->rows - doc * p->time < p->time ? p->rows - doc * p->time : p->time);
        int64_t lo = start, hi = self + 1;
        if (p->mask == DAN_MASK_FULL) hi = stop;
        if (p->mask == DAN_MASK_WINDOW && hi - p->width > lo) lo = hi - p->width;
        if (p->mask == DAN_MASK_PREFIX && start + p->width > hi) hi = start + p->width < stop ? start + p->width : stop;
        r[0] = (int32_t)start;
        r[1] = (int32_t)lo;
        r[2] = (int32_t)(i % 97 == 5 ? lo : hi);       /* some rows see nothing */
    }
}

static struct dan_tensor view(const struct dan_dtype *t, void *x, int64_t rows, int64_t wide, int64_t from, int64_t cols)
{
    struct dan_tensor v = dan_tensor_of(t, DAN_SHAPE(rows, wide), at(t, x, from));
    v.shape.d[1] = cols;
    return v;
}

/* Numbers are rounded to bf16 whatever t is, so that references agree.  Outputs start as 0xA5. */
static void data_init(struct data *x, const struct pack *p, const struct dan_dtype *t)
{
    int64_t keys = n_keys(p), nq = p->heads * p->d, nk = p->kv * p->d, wide = nq + 2 * nk + 8, n = p->rows;
    int64_t count[] = {keys * wide, n * 3, n * (2 * nq + 4), n * p->heads, n * (nq + 4) + RED, keys * wide + RED};
    for (int i = 0; i < 6; i++) {
        const struct dan_dtype *d = i == 1 || i == 3 ? &dan_dtype_f32 : t;
        x->bytes[i] = count[i] * d->bytes;
        x->memory[i] = dan_malloc((size_t)x->bytes[i] + 256);
        memset(x->memory[i], 0xA5, (size_t)x->bytes[i] + 256);
        struct dan_rng rng = {.seed = (uint64_t)i};
        for (int64_t j = 0; j < count[i] && (i == 0 || i == 2); j++) {
            float v = (float)dan_rng_normal(&rng);
            uint16_t half;
            dan_dtype_bf16.from_f32(&v, &half, 1);
            dan_dtype_bf16.to_f32(&half, &v, 1);
            d->from_f32(&v, at(d, x->memory[i], j), 1);
        }
    }
    fill_ranges(p, x->memory[1]);
    x->in[0] = view(t, x->memory[0], n, wide, 0, nq);
    for (int i = 0; i < 2; i++) x->in[1 + i] = view(t, x->memory[0], keys, wide, nq + i * nk, nk);
    x->in[3] = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n, 3), x->memory[1]);
    x->in[4] = view(t, x->memory[2], n, 2 * nq + 4, 0, nq);
    x->in[5] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, p->heads), x->memory[3]);
    x->in[6] = view(t, x->memory[2], n, 2 * nq + 4, nq, nq);
    x->out[0] = x->in[4];
    x->out[1] = x->in[5];
    x->out[2] = view(t, x->memory[5], n, wide, 0, nq);
    for (int i = 0; i < 2; i++) x->out[3 + i] = view(t, x->memory[5], keys, wide, nq + i * nk, nk);
}

static void data_release(struct data *x)
{
    for (int i = 0; i < 6; i++) dan_free(x->memory[i]);
}

struct job { void (*run)(const struct dan_args *a); struct dan_args a; };
static void job_thread(void *ctx, int ith, int nth)
{
    struct dan_args a = ((const struct job *)ctx)->a;
    a.ith = ith;
    a.nth = nth;
    ((const struct job *)ctx)->run(&a);
}

/* With the kernel, or the reference where there is none. */
static void run_op(const char *op, const struct dan_kernel *k, struct dan_args a, int pool)
{
    size_t n = k ? k->workspace(&a, pool_size[pool]) : dan_op_find(op)->ref_ws ? dan_op_find(op)->ref_ws(&a, 1) : 0;
    char *ws = dan_malloc(n + 256), *from = (char *)(((uintptr_t)ws + 63) / 64 * 64);
    memset(ws, 0xFF, n + 256);
    struct job j = {k ? k->run : dan_op_find(op)->ref, a};
    j.a.ws = from;
    j.a.pool = pools[pool];
    dan_pool_run(pools[pool], job_thread, &j);
    for (char *c = from + n; c < ws + n + 256; c++) assert_int_equal((unsigned char)*c, 0xFF);
    dan_free(ws);
}

static struct dan_args args_of(const struct data *x, bool grad, const union dan_attr *attr)
{
    return (struct dan_args){.in = x->in, .out = x->out + (grad ? 2 : 0), .attr = attr, .n_in = grad ? 7 : 4, .n_out = grad ? 3 : 2};
}

static float number(const struct dan_tensor *t, int64_t r, int64_t c)
{
    float x;
    t->dtype->to_f32(at(t->dtype, dan_row(t, r), c), &x, 1);
    return x;
}

static double distance(const struct dan_tensor *x, const struct dan_tensor *y, double *largest)
{
    double d = 0;
    for (int64_t r = 0; r < x->shape.d[0]; r++)
        for (int64_t c = 0; c < x->shape.d[1]; c++) {
            double a = (double)number(x, r, c), b = (double)number(y, r, c);
            if (a == b) continue;
            assert_true(isfinite(a) && isfinite(b));
            d = fmax(d, fabs(a - b));
            *largest = fmax(*largest, fabs(b));
        }
    return d;
}

/* The columns behind those of dq, dk and dv are left alone. */
static void check_gaps(const struct pack *p, const struct data *x)
{
    const struct dan_tensor *dv = &x->out[4];
    for (int64_t r = 0; r < dv->shape.d[0]; r++) {
        const unsigned char *c = at(dv->dtype, dan_row(dv, r), p->kv * p->d);
        for (int i = 0; i < 8 * dv->dtype->bytes; i++) assert_int_equal(c[i], 0xA5);
    }
}

/* All pools, one result. */
static void check_threads(const char *op, const struct dan_kernel *k, const struct pack *p, const struct data *x, bool grad,
                          const union dan_attr *attr)
{
    for (int pool = 1; pool < N_POOLS; pool++) {
        struct data y;
        data_init(&y, p, x->in[0].dtype);
        int from = grad ? 5 : 2, to = grad ? 5 : 3;
        memcpy(y.memory[2], x->memory[2], (size_t)x->bytes[2]);
        memcpy(y.memory[3], x->memory[3], (size_t)x->bytes[3]);
        run_op(op, k, args_of(&y, grad, attr), pool);
        for (int i = from; i <= to; i++) assert_memory_equal(x->memory[i], y.memory[i], (size_t)x->bytes[i]);
        data_release(&y);
    }
}

static void check_pack(const struct dan_kernel *k, const struct pack *p, const struct dan_dtype *t)
{
    const union dan_attr attr[DAN_MAX_ATTR] = {{.i = p->heads}, {.i = p->kv}, {.f = 1 / sqrt((double)p->d)}};
    struct data want, x;
    bool grad = strcmp(k->op, "attend_grad") == 0;
    data_init(&want, p, &dan_dtype_f32);
    data_init(&x, p, t);
    struct dan_args a = args_of(&x, grad, attr);
    if ((t == &dan_dtype_f32 || k->half) && k->accepts(&a)) {
        run_op("attend", NULL, args_of(&want, false, attr), 0);
        for (int64_t i = 0; grad && i < p->rows; i++)                  /* o and lse as a kernel of the same storage has them */
            for (int64_t c = 0; c < want.in[4].shape.d[1]; c++) {
                float v = number(&want.in[4], i, c);
                t->from_f32(&v, at(t, dan_row(&x.in[4], i), c), 1);
                t->to_f32(at(t, dan_row(&x.in[4], i), c), at(&dan_dtype_f32, dan_row(&want.in[4], i), c), 1);
            }
        if (grad) memcpy(x.memory[3], want.memory[3], (size_t)want.bytes[3]);
        if (grad) run_op("attend_grad", NULL, args_of(&want, true, attr), 0);
        run_op(k->op, k, a, 0);
        double largest = 0, stored = t == &dan_dtype_f32 ? 0 : 1.0 / 256, off = 0;
        for (int i = grad ? 2 : 0; i < (grad ? 5 : 2); i++) off = fmax(off, distance(&x.out[i], &want.out[i], &largest));
        if (off > ((double)k->rtol + stored) * largest) fail_msg("%s is off by %g of %g", k->name, off, largest);
        if (grad) check_gaps(p, &x);
        check_threads(k->op, k, p, &x, grad, attr);
    }
    data_release(&x);
    data_release(&want);
}

static void long_documents(void **state)
{
    (void)state;
    static const struct pack packs[] = {
        {330, 330, 0, 2, 1, 32, DAN_MASK_CAUSAL, 0}, {200, 200, 0, 1, 1, 96, DAN_MASK_CAUSAL, 0},
        {300, 130, 9, 3, 3, 20, DAN_MASK_CAUSAL, 0}, {290, 290, 3, 1, 1, 64, DAN_MASK_WINDOW, 70},
        {210, 140, 0, 2, 1, 128, DAN_MASK_FULL, 0},  {280, 280, 5, 2, 2, 33, DAN_MASK_PREFIX, 75},
        {150, 150, 0, 1, 1, 256, DAN_MASK_CAUSAL, 0}, {64, 16, 1, 4, 2, 16, DAN_MASK_CAUSAL, 0},
    };
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strncmp(k->op, "attend", 6) || (k->needs & dan_cpu_features()) != k->needs) continue;
        for (size_t j = 0; j < sizeof packs / sizeof packs[0]; j++) {
            check_pack(k, &packs[j], &dan_dtype_f32);
            check_pack(k, &packs[j], &dan_dtype_bf16);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < N_POOLS; i++)
        if (dan_pool_new(pool_size[i], &pools[i], NULL)) return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < N_POOLS; i++) dan_pool_free(pools[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_do_not_depend_on_their_neighbours), cmocka_unit_test(long_documents)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
