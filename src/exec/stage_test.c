/* Values stored as bf16: a train step gives the same bits from any number of threads, and nearly the same gradients
 * as with f32 values, by kernels, by kernels of older machines, and by references through f32. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/threads.h"
#include "exec/exec.h"
#include "model/lm.h"

enum { ROWS = 24, T = 8, VOCAB = 40 };
static const struct dan_lm_config config = {.vocab = VOCAB, .context = T, .hidden = 32, .layers = 2, .heads = 4, .kv_heads = 4, .ffn = 48,
                                            .tied = true, .bias = true};

struct data { int32_t i[7][ROWS]; float w[ROWS]; };

static struct data batch(void)
{
    struct data d;
    for (int i = 0; i < ROWS; i++) {
        const int32_t v[7] = {i * 7 % VOCAB, i * 11 % VOCAB, i % T, i / T * T, i / T * T + T, i, i < ROWS / T};
        for (int k = 0; k < 7; k++) d.i[k][i] = v[k];
        d.w[i] = 1.0f / ROWS;
    }
    return d;
}

static void bind_data(struct dan_program *p, struct data *d)
{
    const char *names[] = {"tokens", "targets", "pos", "start", "stop", "self", "reset"};
    struct dan_tensor w = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(ROWS), d->w);
    for (int k = 0; k < 7; k++) {
        struct dan_tensor t = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(ROWS), d->i[k]);
        dan_bind(p, names[k], &t, NULL);       /* each family has some of them */
    }
    dan_bind(p, "weights", &w, NULL);
}

/* All gradients of one step, one after the other; the caller frees. */
static float *step(struct dan_lm *lm, const struct dan_graph *g, const struct dan_exec_opts *o, int64_t *n)
{
    struct dan_err e = {0};
    struct dan_program *p;
    struct data d = batch();
    float *all = NULL;
    if (dan_compile(g, o, &p, &e) || dan_bind_store(p, lm->store, &e)) fail_msg("%s", e.msg);
    bind_data(p, &d);
    if (dan_run(p, &e)) fail_msg("%s", e.msg);
    *n = 0;
    for (int pass = 0; pass < 2; pass++) {
        int64_t at = 0;
        for (int i = 0; i < g->n_out; i++) {
            const struct dan_tensor *t = dan_result(p, i);
            if (all) memcpy(all + at, t->data, dan_tensor_bytes(t));
            at += dan_shape_count(&t->shape);
        }
        *n = at;
        if (!all) all = dan_malloc((size_t)at * sizeof *all);
        assert_non_null(all);
    }
    dan_program_free(p);
    return all;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += pow((double)a[i] - (double)b[i], 2), s += (double)b[i] * (double)b[i];
    return sqrt(d / s);
}

static int n_half(const struct dan_graph *g)
{
    int n = 0;
    for (int32_t i = 1; i < g->n; i++) n += __builtin_popcount(g->node[i].half);
    return n;
}

static void graph_of(struct dan_lm *lm, const struct dan_model *m, struct dan_graph **g)
{
    struct dan_err e = {0};
    struct dan_io io = {.max_rows = ROWS, .lanes = m->time_major ? ROWS / T : 0, .loss = true};
    struct dan_pass_opts o = {.loss = "loss", .prec = DAN_PREC_BF16};
    if (dan_lm_init(lm, m, &config, 5, &e) || dan_lm_graph(lm, &io, DAN_PIPELINE_TRAIN, &o, g, &e)) fail_msg("%s: %s", m->name, e.msg);
}

static void same_with_any_threads(struct dan_lm *lm, const struct dan_graph *g, const float *want, const char *name)
{
    const int sizes[] = {2, 3, 7};
    for (int i = 0; i < 3; i++) {
        struct dan_pool *pool;
        int64_t n;
        assert_int_equal(dan_pool_new(sizes[i], &pool, NULL), 0);
        float *got = step(lm, g, &(struct dan_exec_opts){.pool = pool}, &n);
        if (memcmp(got, want, (size_t)n * sizeof *got)) fail_msg("%s: other bits with %d threads", name, sizes[i]);
        dan_free(got);
        dan_pool_free(pool);
    }
}

static void gradients(void **state)
{
    (void)state;
    for (int i = 0; dan_models[i]; i++) {
        struct dan_lm lm;
        struct dan_graph *g;
        int64_t n;
        graph_of(&lm, dan_models[i], &g);
        print_message("%s: %d values stored as bf16\n", dan_models[i]->name, n_half(g));
        if (!dan_models[i]->time_major) assert_true(n_half(g) > 10);
        float *kernels = step(&lm, g, NULL, &n);
        same_with_any_threads(&lm, g, kernels, dan_models[i]->name);
        float *refs = step(&lm, g, &(struct dan_exec_opts){.ref = true}, &n);
        float *older = step(&lm, g, &(struct dan_exec_opts){.cpu_mask = DAN_CPU_AVX2}, &n);
        for (int32_t r = 1; r < g->n; r++) g->node[r].half = 0;
        float *full = step(&lm, g, NULL, &n);
        const double d[] = {distance(kernels, full, n), distance(refs, full, n), distance(older, full, n)};
        for (int k = 0; k < 3; k++)
            if (!(d[k] < 0.02)) fail_msg("%s: gradients differ by %g from those of f32 values", dan_models[i]->name, d[k]);
        dan_free(kernels), dan_free(refs), dan_free(older), dan_free(full);
        dan_graph_free(g);
        dan_store_free(lm.store);
    }
}

/* What is stored as bf16 survives printing and reading. */
static void text(void **state)
{
    struct dan_lm lm;
    struct dan_graph *g, *again;
    struct dan_err e = {0};
    struct dan_str a = {0}, b = {0};
    (void)state;
    graph_of(&lm, dan_models[0], &g);
    dan_graph_print(g, &a);
    if (dan_graph_parse(dan_str_c(&a), &again, &e)) fail_msg("%s", e.msg);
    dan_graph_print(again, &b);
    assert_int_equal(n_half(again), n_half(g));
    assert_int_equal(dan_graph_hash(again), dan_graph_hash(g));
    dan_str_release(&a);
    dan_str_release(&b);
    dan_graph_free(again);
    dan_graph_free(g);
    dan_store_free(lm.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients), cmocka_unit_test(text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
