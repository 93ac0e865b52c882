/* danlu's side of bench/matmul_vs_peers.py.  Reads lines
 *
 *     m n k ta tb a b y prec act threads copies seconds kernel
 *
 * (a, b, y: f32 or bf16 in memory; kernel: a name, or "best"), multiplies for so many seconds, going through `copies`
 * sets of operands, and answers "kernel nanoseconds nanoseconds", the least and the median time of a product. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "base/threads.h"
#include "core/args.h"
#include "op/attrs.h"

struct query { long m, n, k, ta, tb, prec, act, threads, copies; char a[16], b[16], y[16], kernel[64]; double seconds; };

struct job { const struct dan_kernel *kernel; struct dan_args args; };
static void thread_main(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    struct dan_args a = j->args;
    a.ith = ith;
    a.nth = nth;
    j->kernel->run(&a);
}

static const struct dan_kernel *choose(const struct dan_args *a, const char *name)
{
    const struct dan_kernel *best = NULL;
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strcmp(k->op, "matmul") || (k->needs & dan_cpu_features()) != k->needs || !k->accepts(a)) continue;
        if (strcmp(name, "best") ? !strcmp(name, k->name) : !best || k->rank > best->rank) best = k;
    }
    return best;
}

static struct dan_tensor tensor(const char *type, long rows, long cols, char **at)
{
    struct dan_tensor t = dan_tensor_of(dan_dtype_find(type), DAN_SHAPE(rows, cols), *at);
    *at += (dan_tensor_bytes(&t) + 4095) / 4096 * 4096 + 256;
    return t;
}

static int by_size(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static struct dan_pool *pool_of(int n)
{
    static struct dan_pool *pool;
    if (pool && dan_pool_size(pool) == n) return pool;
    dan_pool_free(pool);
    if (dan_pool_new(n, &pool, NULL)) exit(1);
    return pool;
}

static void fill(char *p, size_t n)
{
    uint32_t s = 1;                            /* 0.5..1 and -0.5..-1 as f32, and as two bf16 */
    for (size_t i = 0; i + 4 <= n; i += 4) {
        s = s * 1664525u + 1013904223u;
        uint32_t u = 0x3f003f00u | (s >> 8 & 0x807f807fu);
        memcpy(p + i, &u, 4);
    }
}

static void answer(const struct query *q)
{
    enum { MOST = 1 << 16 };
    static double times[MOST];
    struct dan_tensor in[64][4] = {0}, out[64];
    union dan_attr attr[DAN_MAX_ATTR] = {0};
    size_t each = (size_t)(4 * (q->m * q->k + q->k * q->n + q->m * q->n) + 3 * 8192), room = each * (size_t)q->copies;
    char *memory = dan_huge_alloc(room), *at = memory;
    if (!memory) exit(1);
    fill(memory, room);
    for (long c = 0; c < q->copies; c++) {
        in[c][0] = q->ta ? tensor(q->a, q->k, q->m, &at) : tensor(q->a, q->m, q->k, &at);
        in[c][1] = q->tb ? tensor(q->b, q->n, q->k, &at) : tensor(q->b, q->k, q->n, &at);
        out[c] = tensor(q->y, q->m, q->n, &at);
    }
    attr[DAN_MATMUL_TA].i = q->ta, attr[DAN_MATMUL_TB].i = q->tb, attr[DAN_MATMUL_PREC].i = q->prec, attr[DAN_MATMUL_ACT].i = q->act;
    struct job j = {NULL, {.in = in[0], .out = out, .attr = attr, .pool = pool_of((int)q->threads), .n_in = 4, .n_out = 1, .nth = 1}};
    j.kernel = choose(&j.args, q->kernel);
    if (!j.kernel) {
        printf("none 0 0\n");
        dan_huge_free(memory, room);
        return;
    }
    size_t bytes = (j.kernel->workspace(&j.args, (int)q->threads) + 4096) / 4096 * 4096;
    j.args.ws = dan_huge_alloc(bytes);
    int n = 0;
    for (double end = dan_now() + q->seconds; n < MOST && (n < 3 || dan_now() < end); n++) {
        j.args.in = in[n % q->copies];
        j.args.out = &out[n % q->copies];
        double t = dan_now();
        dan_pool_run(j.args.pool, thread_main, &j);
        times[n] = dan_now() - t;
    }
    qsort(times, (size_t)n, sizeof *times, by_size);
    printf("%s %.0f %.0f\n", j.kernel->name, times[0] * 1e9, times[n / 2] * 1e9);
    dan_huge_free(j.args.ws, bytes);
    dan_huge_free(memory, room);
}

int main(void)
{
    struct query q;
    while (scanf("%ld %ld %ld %ld %ld %15s %15s %15s %ld %ld %ld %ld %lf %63s", &q.m, &q.n, &q.k, &q.ta, &q.tb, q.a, q.b, q.y, &q.prec,
                 &q.act, &q.threads, &q.copies, &q.seconds, q.kernel) == 14) {
        if (q.copies < 1 || q.copies > 64) return 1;
        answer(&q);
        fflush(stdout);
    }
    return 0;
}
