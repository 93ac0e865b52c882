/* The op chain: values stored as bf16 are rounded where they are stored and nowhere else; results do not depend on the
 * number of threads; it may write over its first input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"
#include "core/half.h"
#include "exec/exec.h"
#include "op/ops.h"

enum { N = 37, C = 150 };

static float rounded(float x) { return dan_bf16_to_f32(dan_f32_to_bf16(x)); }

/* y0 = gelu(x + bias), y1 = y0 * x; the input passes through a node that may store it as bf16. */
static struct dan_graph *graph(bool half)
{
    struct dan_graph *g = dan_graph_new(), *body;
    struct dan_builder b, in;
    assert_non_null(g);
    body = dan_graph_new_in(g->arena);
    dan_builder_init(&b, g);
    dan_builder_init(&in, body);
    dan_ref x0 = dan_input(&in, "x0", &dan_dtype_f32, DAN_SHAPE(C), 0), x1 = dan_input(&in, "x1", &dan_dtype_f32, DAN_SHAPE(C), 0);
    dan_ref y0 = dan_gelu(&in, dan_add(&in, x0, x1));
    dan_output(&in, "y0", y0);
    dan_output(&in, "y1", dan_mul(&in, y0, x0));
    dan_ref x = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1), bias = dan_input(&b, "bias", &dan_dtype_f32, DAN_SHAPE(C), 0);
    dan_ref kept = dan_copy(&b, x), y = dan_chain(&b, body, (const dan_ref[]){kept, bias}, 2);
    for (int k = 0; k < 2; k++) dan_output(&b, k ? "y1" : "y0", dan_copy(&b, dan_pick(&b, y, k)));
    if (half) g->node[kept].half = 1, g->node[y].half = 2;
    assert_int_equal(dan_builder_check(&b, &in.err), 0);
    return g;
}

static void run(const struct dan_graph *g, struct dan_pool *pool, float *x, float *bias, float y[2][N * C])
{
    struct dan_err e = {0};
    struct dan_program *p;
    if (dan_compile(g, &(struct dan_exec_opts){.pool = pool}, &p, &e)) fail_msg("%s", e.msg);
    struct dan_tensor tx = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(N, C), x), tb = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(C), bias);
    if (dan_bind(p, "x", &tx, &e) || dan_bind(p, "bias", &tb, &e) || dan_run(p, &e)) fail_msg("%s", e.msg);
    for (int k = 0; k < 2; k++) memcpy(y[k], dan_result(p, k)->data, sizeof y[k]);
    dan_program_free(p);
}

static void stored_as_bf16(void **state)
{
    static float x[N * C], bias[C], plain[2][N * C], half[2][N * C], more[2][N * C];
    struct dan_rng r = {.seed = 5};
    struct dan_pool *pool;
    (void)state;
    assert_int_equal(dan_pool_new(3, &pool, NULL), 0);
    for (int i = 0; i < N * C; i++) x[i] = (float)dan_rng_normal(&r);
    for (int i = 0; i < C; i++) bias[i] = (float)dan_rng_normal(&r);
    struct dan_graph *a = graph(false), *b = graph(true);
    run(b, NULL, x, bias, half);
    run(b, pool, x, bias, more);
    assert_memory_equal(half, more, sizeof half);
    for (int i = 0; i < N * C; i++) x[i] = rounded(x[i]);
    run(a, pool, x, bias, plain);
    for (int i = 0; i < N * C; i++) {
        assert_true(half[0][i] == plain[0][i]);                        /* f32, from a rounded input */
        assert_true(half[1][i] == rounded(plain[1][i]));               /* and rounded where it is stored */
    }
    dan_graph_free(a);
    dan_graph_free(b);
    dan_pool_free(pool);
}

/* x dies in the chain: one place in memory for both. */
static void in_place(void **state)
{
    struct dan_graph *g = dan_graph_new(), *body = dan_graph_new_in(g->arena);
    struct dan_builder b, in;
    struct dan_program *p;
    struct dan_err e = {0};
    static float x[N * C];
    (void)state;
    dan_builder_init(&b, g);
    dan_builder_init(&in, body);
    dan_ref x0 = dan_input(&in, "x0", &dan_dtype_f32, DAN_SHAPE(C), 0);
    dan_output(&in, "y", dan_sub(&in, dan_scale(&in, x0, 2), x0));
    dan_ref kept = dan_scale(&b, dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1), 1);
    dan_output(&b, "y", dan_chain(&b, body, &kept, 1));
    if (dan_compile(g, NULL, &p, &e)) fail_msg("%s", e.msg);
    assert_true(dan_program_bytes(p) < 2 * sizeof x);
    for (int i = 0; i < N * C; i++) x[i] = (float)i;
    struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(N, C), x);
    if (dan_bind(p, "x", &t, &e) || dan_run(p, &e)) fail_msg("%s", e.msg);
    assert_memory_equal(dan_result(p, 0)->data, x, sizeof x);
    dan_program_free(p);
    dan_graph_free(g);
}

/* Only pointwise ops can run row by row. */
static void refuses(void **state)
{
    struct dan_graph *g = dan_graph_new(), *body = dan_graph_new_in(g->arena);
    struct dan_builder b, in;
    struct dan_program *p;
    struct dan_err e = {0};
    (void)state;
    dan_builder_init(&b, g);
    dan_builder_init(&in, body);
    dan_output(&in, "y", dan_softmax(&in, dan_input(&in, "x0", &dan_dtype_f32, DAN_SHAPE(C), 0)));
    dan_ref x = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1);
    dan_output(&b, "y", dan_chain(&b, body, &x, 1));
    assert_int_equal(dan_compile(g, NULL, &p, &e), DAN_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "'softmax' cannot run inside a chain"));
    dan_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stored_as_bf16), cmocka_unit_test(in_place), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
