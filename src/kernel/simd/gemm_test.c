/* The promise of gemm.h for every matmul kernel this CPU runs: a row's bits do not depend on the other
 * rows, their number or the threads; and the values against a sum in double, past the block sizes. */
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

enum { M = 70, N = 131, K = 1120 };            /* beyond every KC and THIN, no multiple of a tile */

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

struct problem {
    float a[M * K], b[N * K], y[M * N], part[M * N];
    char stored[N * K * 4];                    /* b in another format */
    struct dan_tensor in[4];
    union dan_attr attr[4];
};

static const struct dan_kernel *usable(int i, const struct dan_args *a)
{
    const struct dan_kernel *k = dan_kernels[i];
    bool ok = strcmp(k->op, "matmul") == 0 && (k->needs & dan_cpu_features()) == k->needs && k->accepts(a);
    return ok ? k : NULL;
}

static double element(const struct problem *p, int i, int j)
{
    double sum = 0;
    bool ta = p->attr[DAN_MATMUL_TA].i, tb = p->attr[DAN_MATMUL_TB].i, bf16 = p->attr[DAN_MATMUL_PREC].i == DAN_PREC_BF16;
    for (int k = 0; k < K; k++) {
        float x = p->a[ta ? k * M + i : i * K + k], w = p->b[tb ? j * K + k : k * N + j];
        if (bf16) x = dan_bf16_to_f32(dan_f32_to_bf16(x)), w = dan_bf16_to_f32(dan_f32_to_bf16(w));
        sum += (double)x * w;
    }
    return sum;
}

static void check_values(const struct dan_kernel *k, const struct problem *p)
{
    double top = 0, worst = 0;
    for (int i = 0; i < M; i += 3) {
        for (int j = 0; j < N; j += 5) {
            double want = element(p, i, j);
            top = fmax(top, fabs(want));
            worst = fmax(worst, fabs(want - p->y[i * N + j]));
        }
    }
    if (!(worst <= top * k->rtol)) fail_msg("%s: error %g of %g", k->name, worst, top);
}

/* y's rows again, `rows` at a time and with other numbers of threads. */
static void check_bits(const struct dan_kernel *k, struct problem *p, struct dan_args a)
{
    static const int counts[] = {1, 3, 5, 20, 65};
    for (size_t c = 0; c < sizeof counts / sizeof *counts && !p->attr[DAN_MATMUL_TA].i; c++) {
        for (int i = 0, step = 1 + counts[c] / 2; i + counts[c] <= M; i += step * 4) {
            struct dan_tensor in[4], out = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(counts[c], N), p->part);
            memcpy(in, p->in, sizeof in);
            in[0] = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(counts[c], K), p->a + i * K);
            a.in = in;
            a.out = &out;
            run_kernel(k, a, 1 + i % 3);
            if (memcmp(p->part, p->y + i * N, (size_t)(counts[c] * N) * sizeof(float)))
                fail_msg("%s: rows from %d in a batch of %d have other bits", k->name, i, counts[c]);
        }
    }
}

static void check_layout(struct problem *p, const struct dan_dtype *type, int ta, int tb, int prec)
{
    bool tried = false;
    struct dan_tensor y = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(M, N), p->y), again = y;
    struct dan_args a = {.in = p->in, .out = &y, .attr = p->attr, .n_in = 4, .n_out = 1};
    again.data = p->part;
    p->in[0] = dan_tensor_of(&dan_dtype_f32, ta ? DAN_SHAPE(K, M) : DAN_SHAPE(M, K), p->a);
    p->in[1] = dan_tensor_of(type, tb ? DAN_SHAPE(N, K) : DAN_SHAPE(K, N), type == &dan_dtype_f32 ? (void *)p->b : p->stored);
    p->attr[DAN_MATMUL_TA].i = ta;
    p->attr[DAN_MATMUL_TB].i = tb;
    p->attr[DAN_MATMUL_PREC].i = prec;
    if (type != &dan_dtype_f32) {
        type->from_f32(p->b, p->stored, N * K);
        type->to_f32(p->stored, p->b, N * K);
    }
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
            if (memcmp(p->y, p->part, sizeof p->y)) fail_msg("%s: %d threads give other bits", k->name, nth);
        }
        check_bits(k, p, a);
    }
    assert_true(tried);
}

static void bits_depend_on_the_row_alone(void **state)
{
    (void)state;
    struct problem *p = calloc(1, sizeof *p);
    uint32_t seed = 1;
    assert_non_null(p);
    for (int i = 0; i < M * K; i++) p->a[i] = noise(&seed);
    for (int i = 0; i < N * K; i++) p->b[i] = noise(&seed);
    for (int layout = 0; layout < 4; layout++)
        for (int prec = 0; prec < 2; prec++) check_layout(p, &dan_dtype_f32, layout >> 1, layout & 1, prec);
    for (int prec = 0; prec < 2; prec++) check_layout(p, &dan_dtype_bf16, 0, 1, prec);
    check_layout(p, &dan_dtype_q8_0, 0, 1, DAN_PREC_F32);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_depend_on_the_row_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
