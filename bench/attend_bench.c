/* Times attend and attend_grad alone: the kernels a training step would run, on one buffer of q, k, v.
 *
 *   attend_bench TIME HEAD_DIM HEADS KV_HEADS BATCH f32|bf16 THREADS REPEATS [ISA|any [IN OUT]]
 *
 * BATCH documents of TIME rows, causal; N = BATCH TIME.  ISA: kernels of that folder only.  IN: floats, qkv [N, (H + 2 K) D] and
 * then do [N, H D]; without it numbers are random.  OUT: floats, o [N, H D] and then dqkv [N, (H + 2 K) D].  Prints one line of
 * JSON: seconds (smallest and median of the repeats), bytes of workspace, by how much memory grew, the kernels. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "base/threads.h"
#include "core/args.h"
#include "op/attrs.h"

struct problem {
    int64_t time, d, heads, kv, batch, rows, nq, nk;
    const struct dan_dtype *t;
    const char *isa;                           /* "any": the best */
    union dan_attr attr[DAN_MAX_ATTR];
};

struct call {
    const struct dan_kernel *kernel;
    struct dan_args a;
    void *memory;
    size_t ws;
};

static void *room(size_t n)
{
    void *p = dan_huge_alloc(n + 128);
    if (p) return p;
    fprintf(stderr, "not enough memory for %zu bytes\n", n);
    exit(1);
}

static struct dan_tensor tensor_new(const struct dan_dtype *t, int64_t rows, int64_t cols)
{
    return dan_tensor_of(t, DAN_SHAPE(rows, cols), room((size_t)(rows * cols) * t->bytes));
}

static struct dan_tensor columns(const struct dan_tensor *t, int64_t from, int64_t n)
{
    struct dan_tensor c = *t;
    c.data = (char *)t->data + from * t->dtype->bytes;
    c.shape.d[1] = n;
    return c;
}

static void fill(const struct dan_tensor *t, FILE *in, uint64_t seed)
{
    struct dan_rng rng = {.seed = seed};
    int64_t n = dan_shape_count(&t->shape);
    for (int64_t i = 0; i < n; i++) {
        float x = in ? 0 : (float)dan_rng_normal(&rng);
        if (in && fread(&x, sizeof x, 1, in) != 1) {
            fprintf(stderr, "the input file is too short: it must have qkv and do\n");
            exit(1);
        }
        t->dtype->from_f32(&x, (char *)t->data + i * t->dtype->bytes, 1);
    }
}

static void put(const struct dan_tensor *t, FILE *out)
{
    for (int64_t i = 0; i < dan_shape_count(&t->shape); i++) {
        float x;
        t->dtype->to_f32((char *)t->data + i * t->dtype->bytes, &x, 1);
        fwrite(&x, sizeof x, 1, out);
    }
}

static const struct dan_kernel *best_kernel(const char *op, const struct dan_args *a, bool half, const char *isa)
{
    const struct dan_kernel *best = NULL;
    for (int i = 0; dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strcmp(k->op, op) || (k->needs & dan_cpu_features()) != k->needs || (half && !k->half)) continue;
        if (strcmp(isa, "any") && strcmp(isa, k->isa)) continue;
        if ((!best || k->rank > best->rank) && k->accepts(a)) best = k;
    }
    if (best) return best;
    fprintf(stderr, "no kernel of '%s' takes this: use f32, or a CPU with AMX\n", op);
    exit(1);
}

static void prepare(struct call *c, const char *op, const struct problem *p, int n_threads)
{
    c->kernel = best_kernel(op, &c->a, p->t == &dan_dtype_bf16, p->isa);
    c->ws = c->kernel->workspace(&c->a, n_threads);
    c->a.ws = c->memory = room(c->ws);
}

static void call_thread(void *ctx, int ith, int nth)
{
    const struct call *c = ctx;
    struct dan_args a = c->a;
    a.ith = ith;
    a.nth = nth;
    c->kernel->run(&a);
}

static int by_size(const void *x, const void *y)
{
    double d = *(const double *)x - *(const double *)y;
    return d < 0 ? -1 : d > 0;
}

static void measure(struct call *c, struct dan_pool *pool, int repeats, double *smallest, double *median)
{
    double *s = room((size_t)repeats * sizeof *s);
    c->a.pool = pool;
    dan_pool_run(pool, call_thread, c);
    for (int i = 0; i < repeats; i++) {
        double t0 = dan_now();
        dan_pool_run(pool, call_thread, c);
        s[i] = dan_now() - t0;
    }
    qsort(s, (size_t)repeats, sizeof *s, by_size);
    *smallest = s[0];
    *median = s[repeats / 2];
}

static struct dan_tensor causal(const struct problem *p)
{
    struct dan_tensor t = tensor_new(&dan_dtype_i32, p->rows, 3);
    int32_t *r = t.data;
    for (int64_t i = 0; i < p->rows; i++) {
        r[3 * i] = r[3 * i + 1] = (int32_t)(i / p->time * p->time);
        r[3 * i + 2] = (int32_t)i + 1;
    }
    return t;
}

static void bench(const struct problem *p, int n_threads, int repeats, FILE *from, FILE *to)
{
    struct dan_tensor qkv = tensor_new(p->t, p->rows, p->nq + 2 * p->nk), d_o = tensor_new(p->t, p->rows, p->nq);
    fill(&qkv, from, 1);
    fill(&d_o, from, 2);
    struct dan_tensor dqkv = tensor_new(p->t, p->rows, p->nq + 2 * p->nk);
    const struct dan_tensor out[] = {tensor_new(p->t, p->rows, p->nq), tensor_new(&dan_dtype_f32, p->rows, p->heads)};
    const struct dan_tensor in[] = {columns(&qkv, 0, p->nq), columns(&qkv, p->nq, p->nk), columns(&qkv, p->nq + p->nk, p->nk),
                                    causal(p), out[0], out[1], d_o};
    const struct dan_tensor grad[] = {columns(&dqkv, 0, p->nq), columns(&dqkv, p->nq, p->nk), columns(&dqkv, p->nq + p->nk, p->nk)};
    struct call forward = {.a = {.in = in, .out = out, .attr = p->attr, .n_in = 4, .n_out = 2}};
    struct call backward = {.a = {.in = in, .out = grad, .attr = p->attr, .n_in = 7, .n_out = 3}};
    prepare(&forward, "attend", p, n_threads);
    prepare(&backward, "attend_grad", p, n_threads);
    struct dan_pool *pool = NULL;
    if (dan_pool_new(n_threads, &pool, NULL)) exit(1);
    double f[2], b[2];
    int64_t before = dan_rss();
    measure(&forward, pool, repeats, &f[0], &f[1]);
    measure(&backward, pool, repeats, &b[0], &b[1]);
    printf("{\"forward\": %.9f, \"forward_median\": %.9f, \"backward\": %.9f, \"backward_median\": %.9f, \"workspace\": %zu, "
           "\"growth\": %lld, \"kernels\": \"%s %s\"}\n", f[0], f[1], b[0], b[1], forward.ws > backward.ws ? forward.ws : backward.ws,
           (long long)(dan_peak_rss() - before), forward.kernel->name, backward.kernel->name);
    dan_pool_free(pool);
    if (to) {
        put(&out[0], to);
        put(&dqkv, to);
    }
}

int main(int argc, char **argv)
{
    if (argc < 9 || argc == 11 || argc > 12) {
        fprintf(stderr, "usage: attend_bench TIME HEAD_DIM HEADS KV_HEADS BATCH f32|bf16 THREADS REPEATS [ISA|any [IN OUT]]\n");
        return 2;
    }
    struct problem p = {.time = atoi(argv[1]), .d = atoi(argv[2]), .heads = atoi(argv[3]), .kv = atoi(argv[4]), .batch = atoi(argv[5])};
    p.rows = p.batch * p.time;
    p.nq = p.heads * p.d;
    p.nk = p.kv * p.d;
    p.t = dan_dtype_find(argv[6]);
    p.attr[DAN_ATTEND_HEADS].i = p.heads;
    p.attr[DAN_ATTEND_KV_HEADS].i = p.kv;
    p.attr[DAN_ATTEND_SCALE].f = 1 / sqrt((double)p.d);
    p.isa = argc > 9 ? argv[9] : "any";
    FILE *from = argc > 10 ? fopen(argv[10], "rb") : NULL, *to = argc > 10 ? fopen(argv[11], "wb") : NULL;
    if (!p.t || p.rows <= 0 || p.nk <= 0 || p.heads % p.kv || (argc > 10 && (!from || !to))) {
        fprintf(stderr, "cannot run that: check the numbers, the type and the files\n");
        return 2;
    }
    bench(&p, atoi(argv[7]), atoi(argv[8]), from, to);
    if (from) fclose(from);
    if (to && fclose(to)) return 1;
    return 0;
}
