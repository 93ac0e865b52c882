/* Caches of keys and values by heads (core/kv.h).  Writing: kernels put the bytes that the reference puts, append-only, into no
 * byte of another token.  Attending: kernels against the reference at odd head sizes; the bits of a row depend neither on the rows
 * beside it (prefill equals decode), nor on where its sequence begins, nor on the number of threads. */
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
#include "core/kv.h"
#include "graph/graph.h"
#include "op/attrs.h"

enum { N_POOLS = 4, N_TYPES = 3, KEYS = 600, RED = 64 };
static const int pool_size[N_POOLS] = {1, 2, 3, 7};
static struct dan_pool *pools[N_POOLS];
static const struct dan_dtype *const types[N_TYPES] = {&dan_dtype_f32, &dan_dtype_bf16, &dan_dtype_i8};

/* Rows of one sequence of `keys` tokens; window 0: all keys before. */
struct shape { int64_t heads, kv, d, keys, rows, window; double cap; };
static const struct shape shapes[] = {
    {2, 2, 64, 600, 9, 0, 0},  {6, 2, 48, 530, 3, 0, 0}, {3, 1, 80, 300, 21, 0, 1.5}, {2, 1, 128, 270, 2, 100, 0},
    {4, 4, 1, 70, 5, 0, 0},    {1, 1, 5, 258, 258, 7, 0}, {9, 1, 131, 513, 1, 0, 0},  {5, 5, 32, 65, 40, 0, 0},
};

static float *normals(int64_t n, uint64_t seed)
{
    struct dan_rng rng = {.seed = seed};
    float *x = dan_malloc(sizeof *x * (size_t)(n + 32));
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)dan_rng_normal(&rng);
    return x;
}

struct job { void (*run)(const struct dan_args *a); struct dan_args a; };
static void job_thread(void *ctx, int ith, int nth)
{
    struct dan_args a = ((const struct job *)ctx)->a;
    a.ith = ith;
    a.nth = nth;
    ((const struct job *)ctx)->run(&a);
}

/* With the kernel, or the reference where there is none; nothing is written behind the workspace. */
static void run_op(const char *op, const struct dan_kernel *k, struct dan_args a, int pool)
{
    size_t (*workspace)(const struct dan_args *, int) = k ? k->workspace : dan_op_find(op)->ref_ws;
    size_t n = workspace ? workspace(&a, pool_size[pool]) : 0;
    char *ws = dan_malloc(n + 256), *from = (char *)(((uintptr_t)ws + 63) / 64 * 64);
    memset(ws, 0xFF, n + 256);
    struct job j = {k ? k->run : dan_op_find(op)->ref, a};
    j.a.ws = from;
    j.a.pool = pools[pool];
    dan_pool_run(pools[pool], job_thread, &j);
    for (char *c = from + n; c < ws + n + 256; c++) assert_int_equal((unsigned char)*c, 0xFF);
    dan_free(ws);
}

static bool runs_here(const struct dan_kernel *k, const char *op) { return !strcmp(k->op, op) && (k->needs & dan_cpu_features()) == k->needs; }

/* ---- writing ------------------------------------------------------------------------------------------------- */

struct cache { struct dan_tensor t; unsigned char *memory; size_t bytes; };

static struct cache new_cache(const struct dan_dtype *t, int64_t kv, int64_t rows, int64_t d)
{
    struct cache c = {.t = dan_tensor_of(t, dan_kv_shape(t, kv, rows, d), NULL)};
    c.bytes = dan_tensor_bytes(&c.t);
    c.memory = dan_calloc(1, c.bytes + RED);
    assert_non_null(c.memory);
    memset(c.memory + c.bytes, 0xA5, RED);
    c.t.data = c.memory;
    return c;
}

static void write_rows(struct cache *c, bool values, const struct dan_kernel *k, float *x, int64_t wide, int32_t *slot, int64_t n, int pool)
{
    const union dan_attr attr[DAN_MAX_ATTR] = {{.i = values}};
    const struct dan_tensor in[] = {c->t, dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, wide), x), dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n), slot)};
    run_op("kv_write", k, (struct dan_args){.in = in, .out = &c->t, .attr = attr, .n_in = 3, .n_out = 1}, pool);
    for (int i = 0; i < RED; i++) assert_int_equal(c->memory[c->bytes + (size_t)i], 0xA5);
}

/* Half of the tokens, then the others: the same bytes whoever writes, and what is there stays. */
static void check_write(const struct dan_kernel *k, const struct dan_dtype *t, bool values, int64_t kv, int64_t d)
{
    enum { N = 37 };
    int32_t slot[N];
    float *x = normals(N * kv * d, 5), *back = normals(d, 1);
    for (int i = 0; i < N; i++) slot[i] = (i * 7 + 3) % N;
    slot[11] = -1;
    x[3] = 1e4f;                                       /* an outlier is its own token's and head's affair */
    struct cache want = new_cache(t, kv, N, d), got = new_cache(t, kv, N, d), half = new_cache(t, kv, N, d);
    write_rows(&want, values, NULL, x, kv * d, slot, N, 0);
    write_rows(&got, values, k, x, kv * d, slot, N / 2, 2);
    memcpy(half.memory, got.memory, got.bytes);
    write_rows(&got, values, k, x + N / 2 * kv * d, kv * d, slot + N / 2, N - N / 2, 1);
    assert_memory_equal(want.memory, got.memory, got.bytes);
    for (size_t i = 0; i < got.bytes; i++) assert_true(half.memory[i] == 0 || half.memory[i] == got.memory[i]);
    struct dan_kv c = dan_kv_of(&got.t, values);
    for (int64_t i = 0; i < N; i++)
        for (int64_t h = 0; h < kv && slot[i] >= 0; h++) {
            float top = 0;
            dan_kv_read(&c, h, slot[i], back, d);
            for (int64_t j = 0; j < d; j++) top = fmaxf(top, fabsf(x[(i * kv + h) * d + j]));
            float eight = d <= DAN_KV_FEW ? top / (2 * 119) : top / 253;       /* half a level; of few numbers the scale is searched */
            float allowed = t == &dan_dtype_f32 ? 0 : t == &dan_dtype_bf16 ? top / 256 : eight;
            for (int64_t j = 0; j < d; j++) assert_true(fabsf(back[j] - x[(i * kv + h) * d + j]) <= allowed);
        }
    dan_free(want.memory), dan_free(got.memory), dan_free(half.memory);
    dan_free(x), dan_free(back);
}

static void writing(void **state)
{
    (void)state;
    static const int64_t dims[] = {1, 2, 5, 48, 64, 80, 131};
    for (int i = -1; i < 0 || dan_kernels[i]; i++) {
        const struct dan_kernel *k = i < 0 ? NULL : dan_kernels[i];
        if (k && !runs_here(k, "kv_write")) continue;
        for (int t = 0; t < N_TYPES; t++)
            for (size_t j = 0; j < sizeof dims / sizeof *dims; j++) check_write(k, types[t], j & 1, 1 + (int64_t)j % 3, dims[j]);
    }
}

/* ---- attending ----------------------------------------------------------------------------------------------- */

struct problem { const struct shape *s; int64_t base; struct cache k, v; float *q; };

static void problem_init(struct problem *p, const struct shape *s, const struct dan_dtype *t, int64_t base)
{
    int32_t slot[KEYS];
    int64_t wide = s->kv * s->d;
    float *x = normals(s->keys * wide, 2);
    *p = (struct problem){s, base, new_cache(t, s->kv, base + s->keys, s->d), new_cache(t, s->kv, base + s->keys, s->d),
                          normals(s->rows * s->heads * s->d, 1)};
    for (int64_t i = 0; i < s->keys; i++) slot[i] = (int32_t)(base + i);
    write_rows(&p->k, false, NULL, x, wide, slot, s->keys, 0);
    dan_free(x);
    x = normals(s->keys * wide, 3);
    write_rows(&p->v, true, NULL, x, wide, slot, s->keys, 0);
    dan_free(x);
}

static void problem_release(struct problem *p) { dan_free(p->k.memory), dan_free(p->v.memory), dan_free(p->q); }

/* Rows [first, first + n) of the problem: o [n, H D], then lse [n, H].  False: the kernel does not take it. */
static bool attend(const struct problem *p, const struct dan_kernel *k, int64_t first, int64_t n, float *o, float *lse, int pool)
{
    const struct shape *s = p->s;
    int32_t range[3 * KEYS];
    for (int64_t i = 0; i < n; i++) {
        int64_t hi = s->keys - s->rows + first + i + 1, lo = s->window && hi > s->window ? hi - s->window : 0;
        range[3 * i] = (int32_t)p->base;
        range[3 * i + 1] = (int32_t)(p->base + lo);
        range[3 * i + 2] = (int32_t)(p->base + ((first + i) % 11 == 7 ? lo : hi));      /* some rows see nothing */
    }
    const struct dan_tensor in[] = {dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, s->heads * s->d), p->q + first * s->heads * s->d), p->k.t, p->v.t,
                                    dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n, 3), range)};
    const struct dan_tensor out[] = {dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, s->heads * s->d), o),
                                     dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n, s->heads), lse)};
    const union dan_attr attr[DAN_MAX_ATTR] = {{.i = s->heads}, {.i = s->kv}, {.f = 1 / sqrt((double)s->d)}, {.f = s->cap}};
    struct dan_args a = {.in = in, .out = out, .attr = attr, .n_in = 4, .n_out = 2, .nth = 1};
    if (k && !k->accepts(&a)) return false;
    run_op("attend", k, a, pool);
    return true;
}

static void check_near(const struct dan_kernel *k, const struct shape *s, const float *want, const float *got, int64_t n)
{
    float off = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        if (want[i] == got[i]) continue;               /* also both -inf */
        off = fmaxf(off, fabsf(want[i] - got[i]));
        top = fmaxf(top, fabsf(want[i]));
    }
    if (!(off <= k->rtol * fmaxf(top, 1))) fail_msg("%s, head dim %d: off by %g of %g", k->name, (int)s->d, (double)off, (double)top);
}

static bool check_kernel(const struct dan_kernel *k, const struct shape *s, const struct dan_dtype *t)
{
    int64_t n_o = s->rows * s->heads * s->d, n_lse = s->rows * s->heads;
    float *want = normals(n_o + n_lse, 7), *first = normals(n_o + n_lse, 8), *got = normals(n_o + n_lse, 9);
    bool takes = true;
    const int64_t bases[] = {0, 32, 37};
    for (int b = 0; b < 3 && takes; b++) {
        struct problem p;
        problem_init(&p, s, t, bases[b]);
        float *x = b ? got : first;
        takes = attend(&p, k, 0, s->rows, x, x + n_o, b);
        if (takes && b == 0) {
            attend(&p, NULL, 0, s->rows, want, want + n_o, 0);
            check_near(k, s, want, first, n_o);
            check_near(k, s, want + n_o, first + n_o, n_lse);
        } else if (takes) {
            assert_memory_equal(first, got, sizeof *got * (size_t)(n_o + n_lse));
        }
        for (int64_t r = 0; takes && r < s->rows; r++) attend(&p, k, r, 1, got + r * s->heads * s->d, got + n_o + r * s->heads, (int)(r % N_POOLS));
        if (takes) assert_memory_equal(first, got, sizeof *got * (size_t)(n_o + n_lse));
        problem_release(&p);
    }
    dan_free(want), dan_free(first), dan_free(got);
    return takes;
}

static void attending(void **state)
{
    (void)state;
    int n = 0;
    bool simd = false;                         /* built for a machine that has nothing but C, there is none to test */
    for (int i = 0; dan_kernels[i]; i++) {
        if (!runs_here(dan_kernels[i], "attend")) continue;
        simd = simd || dan_kernels[i]->needs;
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++)
            for (int t = 0; t < N_TYPES; t++) n += check_kernel(dan_kernels[i], &shapes[j], types[t]);
    }
    assert_true(n > 0 || !simd);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(writing), cmocka_unit_test(attending)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
