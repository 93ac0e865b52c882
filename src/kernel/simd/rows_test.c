/* Products with int8 levels and a scale per row: every ISA gives the bits of the definition, for values at the ends of the range too,
 * packed before or not, from any number of threads. */
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
#include "op/attrs.h"

enum { MOST_M = 31, MOST_N = 70, MOST_K = 300 };

struct product { int64_t m, n, k; bool zero, fixed, ends; };

struct operands {
    float x[MOST_M * MOST_K], scale[MOST_N], zero[MOST_N], fixed[2], want[MOST_M * MOST_N], got[MOST_M * MOST_N];
    int8_t w[MOST_N * MOST_K];
};

static void fill(struct operands *o, const struct product *p)
{
    struct dan_rng r = {.seed = (uint64_t)(p->m * 1000003 + p->n * 1009 + p->k)};
    for (int64_t i = 0; i < p->m * p->k; i++) o->x[i] = p->ends ? (dan_rng_u32(&r) & 1 ? 900.f : -900.f) : (float)dan_rng_normal(&r);
    for (int64_t i = 0; i < p->n * p->k; i++) o->w[i] = (int8_t)(p->ends ? (dan_rng_u32(&r) & 1 ? 127 : -128) : (int)dan_rng_below(&r, 256) - 128);
    for (int64_t i = 0; i < p->n; i++) {
        o->scale[i] = (float)(0.001 + dan_rng_uniform(&r));
        o->zero[i] = (float)((int)dan_rng_below(&r, 256) - 128);
    }
    o->fixed[0] = 0.02f;
    o->fixed[1] = p->zero ? -37 : 0;
}

/* The definition, in the arithmetic that rows_body.h promises. */
static float define(const struct operands *o, const struct product *p, int64_t i, int64_t j)
{
    const float *x = o->x + i * p->k;
    float top = 0, s = o->fixed[0], z = p->fixed ? o->fixed[1] : 0;
    int64_t sum = 0, levels = 0;
    for (int64_t k = 0; k < p->k; k++) top = fmaxf(top, fabsf(x[k]));
    float inverse = top > 1e-35f ? 127.f / top : 0.f;
    if (!p->fixed) s = top / 127.f;
    for (int64_t k = 0; k < p->k; k++) {
        float q = p->fixed ? fminf(fmaxf(rintf(x[k] / s) + z, -128.f), 127.f) - z : rintf(x[k] * inverse);
        sum += (int64_t)q * o->w[j * p->k + k];
        levels += (int64_t)q;
    }
    float y = (float)sum;
    if (p->zero) y -= o->zero[j] * (float)levels;
    return y * (s * o->scale[j]);
}

struct job { const struct dan_kernel *kernel; struct dan_args a; void *pack_to; };

static void job_thread(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    struct dan_args a = j->a;
    a.ith = ith;
    a.nth = nth;
    if (j->pack_to) j->kernel->pack(&a, j->pack_to);
    else j->kernel->run(&a);
}

static struct dan_pool *pools[3];

/* False when the kernel does not take the product. */
static bool run(const struct dan_kernel *kernel, struct operands *o, const struct product *p, int pool, bool packed)
{
    const union dan_attr attr[DAN_MAX_ATTR] = {[DAN_MATMUL_TB] = {.i = 1}};
    struct dan_tensor out = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(p->m, p->n), o->got), in[7] = {
        dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(p->m, p->k), o->x), dan_tensor_of(&dan_dtype_i8, DAN_SHAPE(p->n, p->k), o->w)};
    in[DAN_MATMUL_SCALE] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(p->n), o->scale);
    if (p->zero) in[DAN_MATMUL_ZERO] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(p->n), o->zero);
    if (p->fixed) in[DAN_MATMUL_INPUT_SCALE] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(2), o->fixed);
    struct job j = {kernel, {.in = in, .out = &out, .attr = attr, .pool = pools[pool], .n_in = 7, .n_out = 1}, NULL};
    if (!kernel->accepts(&j.a)) return false;
    int nth = pool ? pool + 1 : 1;
    void *ws = dan_calloc(1, kernel->workspace(&j.a, nth) + 64), *panels = NULL;
    if (packed && kernel->pack) {
        panels = dan_calloc(1, kernel->pack_bytes(&j.a) + 64);
        j.pack_to = (void *)(((uintptr_t)panels + 63) / 64 * 64);
        dan_pool_run(pools[pool], job_thread, &j);
        j.a.packed = j.pack_to;
        j.pack_to = NULL;
    }
    j.a.ws = (void *)(((uintptr_t)ws + 63) / 64 * 64);
    memset(o->got, 0xff, sizeof o->got);
    dan_pool_run(pools[pool], job_thread, &j);
    dan_free(ws);
    dan_free(panels);
    return true;
}

static int check(struct operands *o, const struct product *p)
{
    uint64_t cpu = dan_cpu_features();
    int n_tried = 0;
    fill(o, p);
    for (int64_t i = 0; i < p->m * p->n; i++) o->want[i] = define(o, p, i / p->n, i % p->n);
    for (int k = 0; dan_kernels[k]; k++) {
        if (strncmp(dan_kernels[k]->name, "matmul_i8_", 10) || (dan_kernels[k]->needs & cpu) != dan_kernels[k]->needs) continue;
        for (int way = 0; way < 4; way++) {
            if (!run(dan_kernels[k], o, p, way % 3, way & 1)) break;
            n_tried++;
            if (memcmp(o->got, o->want, sizeof(float) * (size_t)(p->m * p->n)))
                fail_msg("%s differs from the definition at [%d,%d,%d]%s%s%s%s", dan_kernels[k]->name, (int)p->m, (int)p->n, (int)p->k,
                         p->zero ? ", zeros" : "", p->fixed ? ", static" : "", p->ends ? ", ends of the range" : "", way & 1 ? ", packed" : "");
        }
    }
    return n_tried;
}

static void each(int64_t m, int64_t n, int64_t k)
{
    struct operands *o = dan_calloc(1, sizeof *o);
    assert_non_null(o);
    for (int form = 0; form < 8; form++) {
        struct product p = {m, n, k, form & 1, form & 2, form & 4};
        assert_true(check(o, &p) > 0);
    }
    dan_free(o);
}

static void every_k(void **state) { (void)state; for (int64_t k = 0; k <= 67; k++) each(5, 18, k); }

static void every_edge(void **state)
{
    (void)state;
    static const int64_t m[] = {1, 2, 3, 4, 6, 7, 13, 14, 15, 29, MOST_M}, n[] = {1, 8, 15, 16, 17, 31, 32, 33, MOST_N};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++)
        for (size_t j = 0; j < sizeof n / sizeof *n; j++) each(m[i], n[j], 96 + (int64_t)(i * j) % 40);
    each(MOST_M, MOST_N, MOST_K);
}

/* A row with a number that is none is not a number, and its neighbours do not notice. */
static void broken_rows(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct operands *o = dan_calloc(1, sizeof *o);
    uint64_t cpu = dan_cpu_features();
    assert_non_null(o);
    for (int b = 0; b < 6; b++) {
        struct product p = {3, 5, 40, false, b >= 3, false};
        fill(o, &p);
        o->x[40 + 17] = bad[b % 3];
        for (int k = 0; dan_kernels[k]; k++) {
            if (strncmp(dan_kernels[k]->name, "matmul_i8_", 10) || (dan_kernels[k]->needs & cpu) != dan_kernels[k]->needs) continue;
            if (!run(dan_kernels[k], o, &p, 0, false)) continue;
            for (int j = 0; j < 15; j++) {
                bool none = j / 5 == 1 && (b < 3 || b % 3 == 0);
                if (none ? !isnan(o->got[j]) : o->got[j] != define(o, &p, j / 5, j % 5))
                    fail_msg("%s: element %d of rows with %g is %g", dan_kernels[k]->name, j, (double)bad[b % 3], (double)o->got[j]);
            }
        }
    }
    dan_free(o);
}

static int setup(void **state)
{
    (void)state;
    for (int i = 1; i < 3; i++)
        if (dan_pool_new(i + 1, &pools[i], NULL)) return -1;
    return dan_pool_new(1, &pools[0], NULL) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) dan_pool_free(pools[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_k), cmocka_unit_test(every_edge), cmocka_unit_test(broken_rows)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
