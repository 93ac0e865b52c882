/* Few rows times weights stored as bf16, for every matmul kernel this CPU runs: the bits are those of the same rows
 * among many, at odd sizes, with every epilogue and number of threads; nothing beyond the weights is read (they end
 * at a page that cannot be), nothing beyond the output is written. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "base/sys.h"
#include "base/threads.h"
#include "core/args.h"
#include "core/half.h"
#include "op/attrs.h"

enum { MANY = 70, MOST_N = 131, MOST_K = 1121, RED = 64, PAGE = 4096, ROOM = (MOST_N * MOST_K * 2 / PAGE + 1) * PAGE };

struct problem {
    float a[MANY * MOST_K], bias[MOST_N], res[MANY * MOST_N], many[MANY * MOST_N], few[MANY * MOST_N + RED];
    char *weights;                             /* ROOM bytes, then a page without access */
    struct dan_tensor in[4], out;
    union dan_attr attr[DAN_MAX_ATTR];
};

struct job { const struct dan_kernel *kernel; struct dan_args args; };
static void run_one(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    struct dan_args a = j->args;
    a.ith = ith;
    a.nth = nth;
    j->kernel->run(&a);
}

static float noise(uint32_t *s) { return (float)((*s = *s * 1664525u + 1013904223u) >> 8) / (1 << 23) - 1; }

static void set(struct problem *p, int64_t m, int64_t n, int64_t k, bool epilogue, float *y)
{
    uint16_t *w = (uint16_t *)(p->weights + ROOM) - n * k;     /* ends where the page begins */
    uint32_t seed = 5;
    for (int64_t i = 0; i < n * k; i++) w[i] = dan_f32_to_bf16(noise(&seed));
    memset(p->in, 0, sizeof p->in);
    p->in[0] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(m, k), p->a);
    p->in[1] = dan_tensor_of(&dan_dtype_bf16, DAN_SHAPE(n, k), w);
    if (epilogue) p->in[2] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n), p->bias);
    if (epilogue) p->in[3] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(m, n), p->res);
    p->out = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(m, n), y);
    p->attr[DAN_MATMUL_TA].i = 0;
    p->attr[DAN_MATMUL_TB].i = 1;
    p->attr[DAN_MATMUL_PREC].i = DAN_PREC_BF16;
    p->attr[DAN_MATMUL_ACT].i = epilogue ? DAN_ACT_SILU : DAN_ACT_NONE;
}

static void run_kernel(const struct dan_kernel *k, struct problem *p, int nth)
{
    struct dan_pool *pool;
    struct job j = {k, {.in = p->in, .out = &p->out, .attr = p->attr, .n_in = 4, .n_out = 1}};
    size_t n = (k->workspace ? k->workspace(&j.args, nth) : 0) + 64;
    assert_int_equal(dan_pool_new(nth, &pool, NULL), DAN_OK);
    j.args.pool = pool;
    j.args.ws = aligned_alloc(64, n / 64 * 64);
    assert_non_null(j.args.ws);
    memset(j.args.ws, 0xff, n / 64 * 64);
    dan_pool_run(pool, run_one, &j);
    free(j.args.ws);
    dan_pool_free(pool);
}

static const struct dan_kernel *usable(int i, struct problem *p)
{
    const struct dan_kernel *k = dan_kernels[i];
    struct dan_args a = {.in = p->in, .out = &p->out, .attr = p->attr, .n_in = 4, .n_out = 1};
    return strcmp(k->op, "matmul") == 0 && (k->needs & dan_cpu_features()) == k->needs && k->accepts(&a) ? k : NULL;
}

static void check(const struct dan_kernel *k, struct problem *p, int64_t n, int64_t width, bool epilogue)
{
    static const int rows[] = {1, 2, 3, 4, 5, 16, 17, 32, 33};
    set(p, MANY, n, width, epilogue, p->many);
    run_kernel(k, p, 2);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        memset(p->few, 0x5a, sizeof p->few);
        set(p, rows[r], n, width, epilogue, p->few);
        run_kernel(k, p, 1 + (int)(r % 3));
        if (memcmp(p->few, p->many, (size_t)(rows[r] * n) * sizeof(float)))
            fail_msg("%s: %d of %d rows, N %d, K %d have other bits", k->name, rows[r], MANY, (int)n, (int)width);
        for (int i = 0; i < RED; i++) assert_int_equal(((const char *)(p->few + rows[r] * n))[i], 0x5a);
    }
}

static void few_rows_have_the_bits_of_many(void **state)
{
    static const int64_t ns[] = {1, 15, 16, 33, MOST_N}, ks[] = {1, 2, 31, 33, 48, 288, 513, MOST_K};
    struct problem *p = calloc(1, sizeof *p);
    uint32_t seed = 3;
    (void)state;
    assert_non_null(p);
    p->weights = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p->weights != MAP_FAILED);
    assert_int_equal(mprotect(p->weights + ROOM, PAGE, PROT_NONE), 0);
    for (int i = 0; i < MANY * MOST_K; i++) p->a[i] = noise(&seed);
    for (int i = 0; i < MOST_N; i++) p->bias[i] = noise(&seed);
    for (int i = 0; i < MANY * MOST_N; i++) p->res[i] = noise(&seed);
    set(p, 1, 1, 1, true, p->few);
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = usable(i, p);
        for (size_t n = 0; k && n < sizeof ns / sizeof *ns; n++)
            for (size_t w = 0; w < sizeof ks / sizeof *ks; w++) check(k, p, ns[n], ks[w], (n + w) % 2);
    }
    munmap(p->weights, ROOM + PAGE);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_rows_have_the_bits_of_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
