/* The promise of gemm.h for every matmul kernel this CPU runs: a row's bits do not depend on the other
 * rows, their number or the threads; and the values against a sum in double, past the block sizes, with operands
 * and result stored as f32 and bf16 and with every part of the epilogue. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/sys.h"
#include "base/threads.h"
#include "core/args.h"
#include "core/half.h"
#include "op/attrs.h"

enum { M = 70, N = 131, K = 2200, MOST_BYTES = 4 };     /* beyond every KC and THIN, no multiple of a tile */

struct job { const struct dan_kernel *kernel; struct dan_args args; };

static void run_one(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    struct dan_args a = j->args;
    a.ith = ith;
    a.nth = nth;
    j->kernel->run(&a);
}

static void run_kernel(const struct dan_kernel *k, struct dan_args a, int nth)
{
    struct dan_pool *pool;
    size_t n = (k->workspace ? k->workspace(&a, nth) : 0) + 64;
    assert_int_equal(dan_pool_new(nth, &pool, NULL), DAN_OK);
    a.pool = pool;
    a.ws = aligned_alloc(64, n / 64 * 64);
    assert_non_null(a.ws);
    memset(a.ws, 0xff, n / 64 * 64);           /* NaN: what is read was written */
    dan_pool_run(pool, run_one, &(struct job){k, a});
    free(a.ws);
    dan_pool_free(pool);
}

static float noise(uint32_t *s) { return (float)((*s = *s * 1664525u + 1013904223u) >> 8) / (1 << 23) - 1; }

/* One product: how it is asked for, and how its operands lie in memory; whole: K in whole lines of 64 bytes. */
struct form { int ta, tb, prec, bias, res, whole; enum dan_act act, gate; const struct dan_dtype *a, *b, *y; };

struct problem {
    struct form f;
    int k;                                     /* K, in whole blocks of b's format */
    float a[M * K], b[N * K], bias[N], res[M * N];      /* as stored, in f32 */
    _Alignas(64) char a_stored[M * K * MOST_BYTES], b_stored[N * K * MOST_BYTES], res_stored[M * N * MOST_BYTES];
    char y[M * N * MOST_BYTES], part[M * N * MOST_BYTES];
    struct dan_tensor in[4];
    union dan_attr attr[DAN_MAX_ATTR];
};

static const struct dan_kernel *usable(int i, const struct dan_args *a)
{
    const struct dan_kernel *k = dan_kernels[i];
    bool ok = strcmp(k->op, "matmul") == 0 && (k->needs & dan_cpu_features()) == k->needs && k->accepts(a);
    return ok ? k : NULL;
}

static float rounded(float x, bool bf16) { return bf16 ? dan_bf16_to_f32(dan_f32_to_bf16(x)) : x; }

static double product(const struct problem *p, int i, int j)
{
    double sum = 0;
    bool bf16 = p->f.prec == DAN_PREC_BF16;
    for (int k = 0; k < p->k; k++)
        sum += (double)rounded(p->a[p->f.ta ? k * M + i : i * p->k + k], bf16) * rounded(p->b[p->f.tb ? j * p->k + k : k * N + j], bf16);
    return sum;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* SILU is the only activation here; the table test has all. */
static double element(const struct problem *p, int i, int j)
{
    double y = product(p, i, j) + (p->f.bias ? (double)p->bias[j] : 0), h = (double)p->res[i * N + j], s = sigmoid(h);
    if (p->f.gate) return y * (s + h * s * (1 - s));
    if (p->f.act) y *= sigmoid(y);
    return p->f.res ? y + h : y;
}

static float number(const struct dan_dtype *t, const char *x, int64_t i)
{
    float v;
    t->to_f32(x + i * t->bytes, &v, 1);
    return v;
}

static void check_values(const struct dan_kernel *k, const struct problem *p)
{
    double top = 0, worst = 0;
    for (int i = 0; i < M; i += 3) {
        for (int j = 0; j < N; j += 5) {
            double want = element(p, i, j);
            top = fmax(top, fabs(want));
            worst = fmax(worst, fabs(want - (double)number(p->f.y, p->y, i * N + j)));
        }
    }
    double allowed = top * ((double)k->rtol + (p->f.y == &dan_dtype_bf16 ? 1.0 / 256 : 0));
    if (!(worst <= allowed)) fail_msg("%s: error %g of %g", k->name, worst, top);
}

static struct dan_tensor rows_of(const struct dan_tensor *t, int first, int n)
{
    struct dan_tensor r = *t;
    r.shape.d[0] = n;
    r.data = t->data ? (char *)t->data + first * t->stride[0] : NULL;
    return r;
}

/* y's rows again, `rows` at a time and with other numbers of threads. */
static void check_bits(const struct dan_kernel *k, struct problem *p, struct dan_args a)
{
    static const int counts[] = {1, 3, 5, 20, 65};
    size_t row = (size_t)N * p->f.y->bytes;
    for (size_t c = 0; c < sizeof counts / sizeof *counts && !p->f.ta; c++) {
        for (int i = 0, step = 1 + counts[c] / 2; i + counts[c] <= M; i += step * 4) {
            struct dan_tensor in[4], out = dan_tensor_of(p->f.y, DAN_SHAPE(counts[c], N), p->part);
            memcpy(in, p->in, sizeof in);
            in[0] = rows_of(&p->in[0], i, counts[c]);
            if (in[3].data) in[3] = rows_of(&p->in[3], i, counts[c]);
            a.in = in;
            a.out = &out;
            run_kernel(k, a, 1 + i % 3);
            if (memcmp(p->part, p->y + (size_t)i * row, (size_t)counts[c] * row))
                fail_msg("%s: rows from %d in a batch of %d have other bits", k->name, i, counts[c]);
        }
    }
}

/* n numbers as t stores them, and what they are then. */
static void store(const struct dan_dtype *t, float *x, char *stored, int64_t n)
{
    t->from_f32(x, stored, n);
    t->to_f32(stored, x, n);
}

static void set_up(struct problem *p, const struct form *f)
{
    uint32_t seed = 1;
    p->f = *f;
    p->k = f->whole ? K / 32 * 32 : K / f->b->block * f->b->block;
    for (int i = 0; i < M * K; i++) p->a[i] = noise(&seed);
    for (int i = 0; i < N * K; i++) p->b[i] = noise(&seed);
    for (int i = 0; i < N; i++) p->bias[i] = noise(&seed);
    for (int i = 0; i < M * N; i++) p->res[i] = noise(&seed);
    store(f->a, p->a, p->a_stored, M * p->k);
    store(f->b, p->b, p->b_stored, N * p->k);
    store(f->y, p->res, p->res_stored, M * N);
    memset(p->in, 0, sizeof p->in);
    p->in[0] = dan_tensor_of(f->a, f->ta ? DAN_SHAPE(p->k, M) : DAN_SHAPE(M, p->k), p->a_stored);
    p->in[1] = dan_tensor_of(f->b, f->tb ? DAN_SHAPE(N, p->k) : DAN_SHAPE(p->k, N), p->b_stored);
    if (f->bias) p->in[2] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(N), p->bias);
    if (f->res) p->in[3] = dan_tensor_of(f->y, DAN_SHAPE(M, N), p->res_stored);
    p->attr[DAN_MATMUL_TA].i = f->ta;
    p->attr[DAN_MATMUL_TB].i = f->tb;
    p->attr[DAN_MATMUL_PREC].i = f->prec;
    p->attr[DAN_MATMUL_ACT].i = f->act;
    p->attr[DAN_MATMUL_GATE].i = f->gate;
}

static void check_form(struct problem *p, struct form f)
{
    bool tried = false;
    set_up(p, &f);
    struct dan_tensor y = dan_tensor_of(f.y, DAN_SHAPE(M, N), p->y), again = dan_tensor_of(f.y, DAN_SHAPE(M, N), p->part);
    struct dan_args a = {.in = p->in, .out = &y, .attr = p->attr, .n_in = 4, .n_out = 1};
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = usable(i, &a);
        if (!k) continue;
        tried = true;
        a.out = &y;
        run_kernel(k, a, 1);
        check_values(k, p);
        for (int nth = 2; nth <= 7; nth += 1 + nth % 2 * 3) {
            a.out = &again;
            run_kernel(k, a, nth);
            if (memcmp(p->y, p->part, (size_t)(M * N) * f.y->bytes)) fail_msg("%s: %d threads give other bits", k->name, nth);
        }
        check_bits(k, p, a);
        a.out = &y;
    }
    assert_true(tried);
}

static void with_problem(void (*fn)(struct problem *p))
{
    struct problem *p = aligned_alloc(64, sizeof *p);
    assert_non_null(p);
    memset(p, 0, sizeof *p);
    fn(p);
    free(p);
}

static void all_layouts(struct problem *p)
{
    const struct dan_dtype *f32 = &dan_dtype_f32;
    for (int i = 0; i < 8; i++) check_form(p, (struct form){.ta = i & 1, .tb = i >> 1 & 1, .prec = i >> 2, .a = f32, .b = f32, .y = f32});
    for (int prec = 0; prec < 2; prec++) check_form(p, (struct form){.tb = 1, .prec = prec, .a = f32, .b = &dan_dtype_bf16, .y = f32});
    check_form(p, (struct form){.tb = 1, .a = f32, .b = &dan_dtype_f16, .y = f32});
}

static void all_storages(struct problem *p)
{
    const struct dan_dtype *t[] = {&dan_dtype_f32, &dan_dtype_bf16};
    for (int i = 0; i < 32; i++) {
        struct form f = {.ta = i & 1, .tb = i >> 1 & 1, .prec = DAN_PREC_BF16, .whole = i % 3 != 0,
                         .a = t[i >> 2 & 1], .b = t[i >> 3 & 1], .y = t[i >> 4]};
        if (i % 7 == 0) f.prec = DAN_PREC_F32;
        check_form(p, f);
    }
}

static void all_epilogues(struct problem *p)
{
    const struct dan_dtype *t[] = {&dan_dtype_f32, &dan_dtype_bf16};
    for (int i = 0; i < 8; i++) {
        struct form f = {.tb = 1, .prec = i >> 1 & 1, .a = t[i & 1], .b = t[i >> 2], .y = t[i & 1], .bias = 1, .res = 1};
        struct form g = f;
        f.act = DAN_ACT_SILU;
        g.gate = DAN_ACT_SILU;
        g.bias = 0;
        check_form(p, f);
        check_form(p, g);
    }
}

static void quantised(struct problem *p)
{
    const struct dan_dtype *f32 = &dan_dtype_f32, *bf16 = &dan_dtype_bf16;
    check_form(p, (struct form){.tb = 1, .a = f32, .b = &dan_dtype_q8_0, .y = f32});
    check_form(p, (struct form){.tb = 1, .a = bf16, .b = &dan_dtype_q8_0, .y = bf16, .res = 1});
}

static void layouts(void **state) { (void)state; with_problem(all_layouts); }
static void storages(void **state) { (void)state; with_problem(all_storages); }
static void epilogues(void **state) { (void)state; with_problem(all_epilogues); }
static void weights_in_q8_0(void **state) { (void)state; with_problem(quantised); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts),
        cmocka_unit_test(storages),
        cmocka_unit_test(epilogues),
        cmocka_unit_test(weights_in_q8_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
