/* Products with weights in block formats, for every matmul kernel that this CPU runs and every format that it takes: against sums in
 * double over the same quantised activations, at odd sizes, with rows apart and levels at their ends; the bits of a row are the same
 * among 1 .. 70 rows, with any number of threads, whether weights were packed before, and from rows that were rounded before.  Weights end at a page that cannot be read. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "base/sys.h"
#include "base/threads.h"
#include "core/args.h"
#include "core/rounded.h"
#include "op/attrs.h"

enum { MANY = 70, MOST_N = 67, MOST_K = 2560, GAP = 3, PAGE = 4096, ROOM = (MOST_N * (MOST_K + 512) * 2 / PAGE + 1) * PAGE };

struct problem {
    const struct dan_kernel *kernel;
    int64_t n, k;
    float a[MANY * (MOST_K + GAP)], bias[MOST_N], res[MANY * MOST_N], w[MOST_N * MOST_K], x[MANY * MOST_K];
    float many[MANY * (MOST_N + GAP)], y[MANY * (MOST_N + GAP)];
    char rounded[MANY * (MOST_K / DAN_ROUNDED_GROUP + 1) * DAN_ROUNDED_GROUP_BYTES];
    char *weights;                             /* ROOM bytes, then a page without access */
    void *packed;
    struct dan_tensor in[4], out;
    union dan_attr attr[DAN_MAX_ATTR];
};

static uint32_t rng = 9;
static uint32_t draw(void) { return (rng = rng * 1664525u + 1013904223u) >> 8; }
static float noise(void) { return (float)draw() / (1 << 23) - 1; }

/* One block of random bytes that stands for numbers of a sensible size. */
static void random_block(const struct dan_dtype *t, char *block)
{
    float x[512], top;
    do {
        for (int i = 0; i < t->bytes; i++) block[i] = (char)draw();
        t->to_f32(block, x, t->block);
        top = 0;
        for (int i = 0; i < t->block; i++) top = isfinite(x[i]) && isfinite(top) ? fmaxf(top, fabsf(x[i])) : INFINITY;
    } while (!(top > 1e-2f && top < 100));
}

/* Levels at their ends, with signs that vary by column. */
static void extreme_block(const struct dan_dtype *t, char *block, int64_t col)
{
    float x[512];
    for (int i = 0; i < t->block; i++) x[i] = col % 3 == 0 || (col % 3 == 1 && i % 2) ? -2.f : 2.f;
    t->from_f32(x, block, t->block);
}

static void make_weights(struct problem *p, const struct dan_dtype *t, bool extreme)
{
    int64_t row = (int64_t)dan_dtype_bytes(t, p->k), step = row + t->bytes;    /* a block lies between two rows */
    char *from = p->weights + ROOM - (p->n - 1) * step - row;
    memset(p->weights, 0xff, ROOM);
    for (int64_t n = 0; n < p->n; n++) {
        for (int64_t b = 0; b < row; b += t->bytes) {
            if (extreme) extreme_block(t, from + n * step + b, n);
            else random_block(t, from + n * step + b);
        }
        t->to_f32(from + n * step, p->w + n * p->k, p->k);
    }
    p->in[1] = dan_tensor_of(t, DAN_SHAPE(p->n, p->k), from);
    p->in[1].stride[0] = step;
}

/* What the kernels see of the activations: levels of int8 for each 32, to nearest even. */
static void quantise(struct problem *p)
{
    for (int64_t i = 0; i < MANY * p->k; i += 32) {
        const float *a = p->a + i / p->k * (p->k + GAP) + i % p->k;
        float top = 0;
        for (int j = 0; j < 32; j++) top = fmaxf(top, fabsf(a[j]));
        for (int j = 0; j < 32; j++) p->x[i + j] = top > 0 ? (top / 127.f) * nearbyintf(a[j] * (127.f / top)) : 0;
    }
}

static void make_rows(struct problem *p, bool extreme)
{
    for (int64_t i = 0; i < MANY * (p->k + GAP); i++) p->a[i] = extreme ? (i / 31 % 2 ? 1.f : -1.f) : noise() * (i % 97 == 0 ? 20.f : 1.f);
    for (int64_t i = 0; i < 64; i++) p->a[2 * (p->k + GAP) + i % 32] = 0;      /* a group of zeros */
    for (int64_t i = 0; i < p->n; i++) p->bias[i] = noise();
    for (int64_t i = 0; i < MANY * p->n; i++) p->res[i] = noise();
    quantise(p);
}

static void set_rows(struct problem *p, int64_t m, bool epilogue, float *y)
{
    p->in[0] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(m, p->k), p->a);
    p->in[0].stride[0] = (p->k + GAP) * (int64_t)sizeof(float);
    memset(p->in + 2, 0, 2 * sizeof p->in[0]);
    if (epilogue) p->in[2] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(p->n), p->bias);
    if (epilogue) p->in[3] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(m, p->n), p->res);
    p->out = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(m, p->n), y);
    p->out.stride[0] = (p->n + GAP) * (int64_t)sizeof(float);
    memset(p->attr, 0, sizeof p->attr);
    p->attr[DAN_MATMUL_TB].i = 1;
}

struct job { void (*run)(const struct dan_args *a); void (*pack)(const struct dan_args *a, void *dst); void *dst; struct dan_args args; };
static void run_one(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    struct dan_args a = j->args;
    a.ith = ith;
    a.nth = nth;
    if (j->pack) j->pack(&a, j->dst);
    else j->run(&a);
}

static struct dan_args args_of(struct problem *p) { return (struct dan_args){.in = p->in, .out = &p->out, .attr = p->attr, .n_in = 4, .n_out = 1}; }

static void *room(size_t n, int fill)
{
    size_t all = (n + 127) / 64 * 64;
    void *m = aligned_alloc(64, all);
    assert_non_null(m);
    return memset(m, fill, all);
}

static void run_kernel(struct problem *p, int nth, bool packed)
{
    struct dan_pool *pool;
    struct job j = {.run = p->kernel->run, .args = args_of(p)};
    assert_int_equal(dan_pool_new(nth, &pool, NULL), DAN_OK);
    j.args.pool = pool;
    j.args.ws = room(p->kernel->workspace ? p->kernel->workspace(&j.args, nth) : 0, 0xff);
    j.args.packed = packed ? p->packed : NULL;
    dan_pool_run(pool, run_one, &j);
    free(j.args.ws);
    dan_pool_free(pool);
}

static void pack(struct problem *p, int nth)
{
    struct dan_pool *pool;
    struct job j = {.pack = p->kernel->pack, .args = args_of(p)};
    free(p->packed);
    p->packed = NULL;
    if (!j.pack) return;
    size_t n = p->kernel->pack_bytes(&j.args);
    j.dst = p->packed = room(n, 0xff);
    assert_int_equal(dan_pool_new(nth, &pool, NULL), DAN_OK);
    dan_pool_run(pool, run_one, &j);
    dan_pool_free(pool);
    for (size_t i = n; i < (n + 127) / 64 * 64; i++) assert_int_equal(((unsigned char *)p->packed)[i], 0xff);
}

static void check_sums(struct problem *p, const char *note)
{
    for (int64_t m = 0; m < MANY; m++)
        for (int64_t n = 0; n < p->n; n++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < p->k; k++) {
                double t = (double)p->x[m * p->k + k] * (double)p->w[n * p->k + k];
                sum += t;
                size += fabs(t);
            }
            double got = (double)p->many[m * (p->n + GAP) + n];
            if (!(fabs(got - sum) <= 1e-5 * size + 1e-30))
                fail_msg("%s, weights %s %s: row %d column %d of %d is %g, should be %g", p->kernel->name, p->in[1].dtype->name, note, (int)m, (int)n,
                         (int)p->n, got, sum);
        }
}

static void same_bits(struct problem *p, int64_t m, const float *want, const char *what)
{
    for (int64_t i = 0; i < m; i++)
        if (memcmp(p->y + i * (p->n + GAP), want + i * (p->n + GAP), sizeof(float) * (size_t)p->n))
            fail_msg("%s, weights %s [%d,%d]: row %d of %d has other bits %s", p->kernel->name, p->in[1].dtype->name, (int)p->n, (int)p->k, (int)i,
                     (int)m, what);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = p->n; j < p->n + GAP; j++) assert_true(isnan(p->y[i * (p->n + GAP) + j]));
}

static void again(struct problem *p, int64_t m, int nth, bool packed, const float *want, bool epilogue)
{
    memset(p->y, 0xff, sizeof p->y);
    set_rows(p, m, epilogue, p->y);
    run_kernel(p, nth, packed);
    same_bits(p, m, want, packed ? "when packed" : nth > 1 ? "from more threads" : "among fewer rows");
}

/* The same from rounded rows, a group apart. */
static void rounded_rows(struct problem *p)
{
    int64_t width = dan_rounded_width(DAN_ROUNDED_GROUPS, p->k), step = width + DAN_ROUNDED_GROUP_BYTES;
    for (int64_t i = 0; i < MANY * p->k; i += DAN_ROUNDED_GROUP)
        dan_round_group(p->a + i / p->k * (p->k + GAP) + i % p->k, p->rounded + i / p->k * step + i % p->k / DAN_ROUNDED_GROUP * DAN_ROUNDED_GROUP_BYTES);
    for (int64_t m = 1; m <= MANY; m += m < 4 ? 1 : 11) {
        memset(p->y, 0xff, sizeof p->y);
        set_rows(p, m, false, p->y);
        p->in[0] = dan_tensor_of(&dan_dtype_i8, DAN_SHAPE(m, width), p->rounded);
        p->in[0].stride[0] = step;
        struct dan_args a = args_of(p);
        assert_true(p->kernel->accepts(&a));
        run_kernel(p, 1 + (int)m % 3, p->packed && m % 2);
        same_bits(p, m, p->many, "from rounded rows");
    }
}

static void check(struct problem *p, const struct dan_dtype *t, bool extreme)
{
    set_rows(p, MANY, false, p->many);
    make_weights(p, t, extreme);
    make_rows(p, extreme);
    pack(p, extreme ? 3 : 1);
    run_kernel(p, 1, false);
    check_sums(p, extreme ? "at their ends" : "");
    for (int64_t m = 1; m <= MANY; m += m < 28 ? 1 : 6) {
        again(p, m, 1, false, p->many, false);
        if (p->packed) again(p, m, 1 + (int)m % 3, true, p->many, false);
    }
    for (int nth = 2; nth <= 7; nth += nth == 2 ? 1 : 4) again(p, MANY, nth, false, p->many, false);
    rounded_rows(p);
    memset(p->many, 0xff, sizeof p->many);
    set_rows(p, MANY, true, p->many);
    run_kernel(p, 1, false);
    for (int64_t m = 3; m <= MANY; m += 31) again(p, m, 2, p->packed, p->many, true);
}

static void kernels_agree(void **state)
{
    static const int64_t widths[] = {1, 16, 21, 67}, depths[] = {1, 2, 7, 33};
    static struct problem p;
    (void)state;
    p.weights = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p.weights != MAP_FAILED);
    assert_int_equal(mprotect(p.weights + ROOM, PAGE, PROT_NONE), 0);
    uint64_t cpu = dan_cpu_features();
    for (int i = 0; dan_kernels[i]; i++) {
        p.kernel = dan_kernels[i];
        if (strcmp(p.kernel->op, "matmul") || (p.kernel->needs & cpu) != p.kernel->needs) continue;
        for (int t = 0; dan_dtypes[t]; t++)
            for (int s = 0; s < 4 && dan_dtypes[t]->block > 1; s++) {
                int64_t block = dan_dtypes[t]->block;
                p.n = widths[s];
                p.k = block * (block < 64 ? depths[s] * 2 - depths[s] / 33 : block < 256 ? (depths[s] + 1) / 2 : (depths[s] + 6) / 6);
                if (p.k > MOST_K) p.k = MOST_K / block * block;
                set_rows(&p, MANY, false, p.many);
                p.in[1] = dan_tensor_of(dan_dtypes[t], DAN_SHAPE(p.n, p.k), NULL);
                struct dan_args a = args_of(&p);
                if (!p.kernel->pack || !p.kernel->accepts(&a) || !p.kernel->pack_bytes(&a)) continue;    /* of floats */
                memset(p.many, 0xff, sizeof p.many);
                check(&p, dan_dtypes[t], false);
                if (dan_dtypes[t]->from_f32) check(&p, dan_dtypes[t], true);
            }
    }
    free(p.packed);
    munmap(p.weights, ROOM + PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kernels_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
