/* What the references compute, on numbers worked out by hand; what infer refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"
#include "op/ops.h"

/* A graph whose float inputs are given, run node by node with one thread. */
struct bench { struct dan_graph *g; struct dan_builder b; struct dan_tensor t[64]; };

static struct bench bench_new(void)
{
    struct bench x = {.g = dan_graph_new()};
    assert_non_null(x.g);
    dan_builder_init(&x.b, x.g);
    return x;
}

static dan_ref give(struct bench *x, const struct dan_dtype *t, struct dan_shape s, const void *data)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", x->g->n);
    dan_ref r = dan_input(&x->b, name, t, s, 0);
    x->t[r] = dan_tensor_of(t, s, NULL);
    x->t[r].data = dan_arena_alloc(x->g->arena, dan_tensor_bytes(&x->t[r]) + 1);
    memcpy(x->t[r].data, data, dan_tensor_bytes(&x->t[r]));
    return r;
}

#define FLOATS(x, shape, ...) give(x, &dan_dtype_f32, shape, (const float[]){__VA_ARGS__})
#define INTS(x, shape, ...) give(x, &dan_dtype_i32, shape, (const int32_t[]){__VA_ARGS__})

static void evaluate(struct bench *x)
{
    struct dan_err e = {0};
    if (dan_builder_check(&x->b, &e)) fail_msg("%s", e.msg);
    for (dan_ref r = 1; r < x->g->n; r++) {
        const struct dan_node *n = dan_at(x->g, r);
        struct dan_tensor in[8] = {{0}};
        if (n->op->props & DAN_OP_LEAF) continue;
        for (int k = 0; k < n->n_in; k++) in[k] = x->t[n->in[k]];
        x->t[r] = dan_tensor_of(n->dtype, n->shape, dan_arena_alloc(x->g->arena, 4096));
        struct dan_args a = {.in = in, .out = &x->t[r], .attr = n->attr, .n_in = n->n_in, .n_out = 1, .nth = 1};
        if (n->op->view)
            n->op->view(&a, &x->t[r]);
        else
            n->op->ref(&a);
    }
}

static void expect(struct bench *x, dan_ref y, struct dan_shape shape, const float *want)
{
    evaluate(x);
    const struct dan_tensor *t = &x->t[y];
    assert_true(dan_shape_equal(&t->shape, &shape));
    for (int64_t i = 0; i < dan_shape_count(&shape); i++) {
        float got = ((const float *)dan_row(t, i / dan_cols(t)))[i % dan_cols(t)];
        if (fabsf(got - want[i]) > 2e-6f)
            fail_msg("%s: element %d is %.8g, not %.8g", dan_at(x->g, y)->op->name, (int)i, (double)got, (double)want[i]);
    }
    dan_graph_free(x->g);
}

#define EXPECT(x, y, shape, ...) expect(x, y, shape, (const float[]){__VA_ARGS__})

static void arithmetic_broadcasts(void **state)
{
    (void)state;
    struct bench x = bench_new();
    dan_ref a = FLOATS(&x, DAN_SHAPE(2, 3), 1, 2, 3, 4, 5, 6), row = FLOATS(&x, DAN_SHAPE(3), 10, 20, 30);
    EXPECT(&x, dan_add(&x.b, a, row), DAN_SHAPE(2, 3), 11, 22, 33, 14, 25, 36);
    x = bench_new();
    dan_ref col = FLOATS(&x, DAN_SHAPE(2, 1), 1, -2);
    EXPECT(&x, dan_sub(&x.b, col, FLOATS(&x, DAN_SHAPE(3), 10, 20, 30)), DAN_SHAPE(2, 3), -9, -19, -29, -12, -22, -32);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(4), 1, -5, 2, 8);
    EXPECT(&x, dan_maximum(&x.b, a, FLOATS(&x, DAN_SHAPE(1), 1.5)), DAN_SHAPE(4), 1.5, 1.5, 2, 8);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 2), 1, 2, 3, 4);
    EXPECT(&x, dan_where(&x.b, INTS(&x, DAN_SHAPE(2, 1), 0, 7), a, dan_scale(&x.b, a, -2)), DAN_SHAPE(2, 2), -2, -4, 3, 4);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(3), 1, 4, 9);
    EXPECT(&x, dan_div(&x.b, dan_log(&x.b, dan_exp(&x.b, a)), dan_sqrt(&x.b, a)), DAN_SHAPE(3), 1, 2, 3);
}

/* Values of scipy.stats.norm.cdf(1), numpy.tanh and 1 / (1 + e^-x). */
static void activations(void **state)
{
    (void)state;
    const struct { enum dan_act kind; float at_1, at_minus_2; } cases[] = {
        {DAN_ACT_NONE, 1, -2}, {DAN_ACT_GELU, 0.84134475f, -0.04550026f}, {DAN_ACT_GELU_TANH, 0.84119199f, -0.04540231f},
        {DAN_ACT_SILU, 0.73105858f, -0.23840584f}, {DAN_ACT_RELU, 1, 0}, {DAN_ACT_TANH, 0.76159416f, -0.96402758f},
        {DAN_ACT_SIGMOID, 0.73105858f, 0.11920292f},
    };
    assert_int_equal(sizeof cases / sizeof cases[0], DAN_N_ACTS);
    for (int i = 0; i < DAN_N_ACTS; i++) {
        struct bench x = bench_new();
        EXPECT(&x, dan_act(&x.b, FLOATS(&x, DAN_SHAPE(2), 1, -2), cases[i].kind), DAN_SHAPE(2), cases[i].at_1, cases[i].at_minus_2);
    }
    struct bench x = bench_new();
    EXPECT(&x, dan_swiglu(&x.b, FLOATS(&x, DAN_SHAPE(1, 4), 1, -2, 10, 100)), DAN_SHAPE(1, 2), 7.3105858f, -23.840584f);
}

static void reductions(void **state)
{
    (void)state;
    const struct { int axis; struct dan_shape shape; float y[4]; } cases[] = {
        {0, DAN_SHAPE(2, 2), {6, 8, 10, 12}}, {1, DAN_SHAPE(2, 2), {4, 6, 12, 14}}, {-1, DAN_SHAPE(2, 2), {3, 7, 11, 15}},
    };
    for (int i = 0; i < 3; i++) {
        struct bench x = bench_new();
        expect(&x, dan_sum(&x.b, FLOATS(&x, DAN_SHAPE(2, 2, 2), 1, 2, 3, 4, 5, 6, 7, 8), cases[i].axis), cases[i].shape, cases[i].y);
    }
    struct bench x = bench_new();
    dan_ref a = FLOATS(&x, DAN_SHAPE(2, 2, 2), 1, 2, 3, 4, 5, 6, 7, 8);
    EXPECT(&x, dan_sum_all(&x.b, a), DAN_SHAPE(1), 36);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 2, 2), 1, 2, 3, 4, 5, 6, 7, 8);
    EXPECT(&x, dan_sum_to(&x.b, a, FLOATS(&x, DAN_SHAPE(2, 1), 0, 0)), DAN_SHAPE(2, 1), 14, 22);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2), 1, 2);
    EXPECT(&x, dan_broadcast_like(&x.b, a, FLOATS(&x, DAN_SHAPE(2, 2), 0, 0, 0, 0), 1), DAN_SHAPE(2, 2), 1, 1, 2, 2);
}

/* Large logits must not overflow; rows without a target have no loss. */
static void softmax_and_cross_entropy(void **state)
{
    (void)state;
    const float third = 1.0f / 3, log3 = 1.0986123f;
    struct bench x = bench_new();
    dan_ref l = FLOATS(&x, DAN_SHAPE(2, 3), 1000, 1000, 1000, 0, log3, -INFINITY);
    EXPECT(&x, dan_softmax(&x.b, l), DAN_SHAPE(2, 3), third, third, third, 0.25f, 0.75f, 0);
    x = bench_new();
    l = FLOATS(&x, DAN_SHAPE(4, 2), 1000, 1000, 0, log3, 5, 6, 5, 6);
    EXPECT(&x, dan_softmax_ce(&x.b, l, INTS(&x, DAN_SHAPE(4), 0, 1, -1, 2)), DAN_SHAPE(4), 0.69314718f, 0.28768207f, 0, 0);
    x = bench_new();
    l = FLOATS(&x, DAN_SHAPE(2, 2), 0, log3, 5, 6);
    dan_ref t = INTS(&x, DAN_SHAPE(2), 1, -1), d = FLOATS(&x, DAN_SHAPE(2), 2, 2);
    EXPECT(&x, dan_softmax_ce_grad(&x.b, l, t, d), DAN_SHAPE(2, 2), 0.5f, -0.5f, 0, 0);
}

static void shapes(void **state)
{
    (void)state;
    struct bench x = bench_new();
    dan_ref a = FLOATS(&x, DAN_SHAPE(2, 2), 1, 2, 3, 4), b = FLOATS(&x, DAN_SHAPE(1, 2), 5, 6);
    EXPECT(&x, dan_concat(&x.b, (const dan_ref[]){a, b}, 2, 0), DAN_SHAPE(3, 2), 1, 2, 3, 4, 5, 6);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 2), 1, 2, 3, 4), b = FLOATS(&x, DAN_SHAPE(2, 1), 5, 6);
    EXPECT(&x, dan_concat(&x.b, (const dan_ref[]){a, b}, 2, -1), DAN_SHAPE(2, 3), 1, 2, 5, 3, 4, 6);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 4), 1, 2, 3, 4, 5, 6, 7, 8);
    EXPECT(&x, dan_slice(&x.b, a, 1, -3, -1), DAN_SHAPE(2, 2), 2, 3, 6, 7);
    x = bench_new();
    b = FLOATS(&x, DAN_SHAPE(2, 2), 9, 8, 7, 6), a = FLOATS(&x, DAN_SHAPE(2, 4), 0, 0, 0, 0, 0, 0, 0, 0);
    EXPECT(&x, dan_slice_grad(&x.b, b, a, 1, -3, -1), DAN_SHAPE(2, 4), 0, 9, 8, 0, 0, 7, 6, 0);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(1, 2, 3), 1, 2, 3, 4, 5, 6);
    EXPECT(&x, dan_permute(&x.b, a, (const int[]){2, 0, 1}), DAN_SHAPE(3, 1, 2), 1, 4, 2, 5, 3, 6);
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 4), 1, 2, 3, 4, 5, 6, 7, 8);
    dan_ref heads = dan_permute(&x.b, dan_split_dim(&x.b, a, 1, 2), (const int[]){1, 0, 2});
    EXPECT(&x, dan_merge_dims(&x.b, heads, 0), DAN_SHAPE(4, 2), 1, 2, 5, 6, 3, 4, 7, 8);
}

/* 4 bits: -7..7; ties go to even; each group has its own scale. */
static void fake_quant_rounds_to_the_grid(void **state)
{
    (void)state;
    struct bench x = bench_new();
    dan_ref a = FLOATS(&x, DAN_SHAPE(2, 4), 7, 2.5, 3.5, -0.4f, 0, 0, 70, 14);
    EXPECT(&x, dan_fake_quant(&x.b, a, 4, 2), DAN_SHAPE(2, 4), 7, 2, 3.5f, -0.5f, 0, 0, 70, 10);
}

static int kept(const float *y, int n)
{
    int k = 0;
    for (int i = 0; i < n; i++) k += y[i] != 0;
    return k;
}

/* Element i follows lane i % 4 of block i / 4, whatever the row it lies in; survivors are scaled. */
static void dropout_follows_its_stream(void **state)
{
    (void)state;
    enum { ROWS = 41, COLS = 23, N = ROWS * COLS };
    static float ones[N];
    for (int i = 0; i < N; i++) ones[i] = 1;
    struct bench x = bench_new();
    dan_ref a = give(&x, &dan_dtype_f32, DAN_SHAPE(ROWS, COLS), ones), seed = INTS(&x, DAN_SHAPE(2), -3, 11);
    dan_ref y = dan_dropout(&x.b, a, seed, 0.25), z = dan_dropout(&x.b, a, seed, 0.25);
    evaluate(&x);
    const float *first = x.t[y].data, *second = x.t[z].data;
    int differ = 0;
    for (uint32_t i = 0, u[4]; i < N; i++) {
        dan_philox((uint32_t)-3 | (uint64_t)11 << 32, 0, i / 4, u);
        assert_float_equal(first[i], dan_u01(u[i % 4]) >= 0.25f ? 4.0f / 3 : 0, 1e-6);
        differ += (first[i] != 0) != (second[i] != 0);
    }
    assert_in_range(kept(first, N), N * 0.7, N * 0.8);     /* 0.75, 3.5 standard deviations */
    assert_in_range(kept(second, N), N * 0.7, N * 0.8);
    assert_in_range(differ, N * 0.3, N * 0.45);            /* two streams: 2 p (1 - p) = 0.375 */
    dan_graph_free(x.g);
}

static void refused(struct bench *x, dan_ref y, const char *what)
{
    assert_int_equal(y, 0);
    assert_true(x->b.err.code != 0);
    if (!strstr(x->b.err.msg, what)) fail_msg("'%s' does not say '%s'", x->b.err.msg, what);
    dan_graph_free(x->g);
}

static void mistakes_are_explained(void **state)
{
    (void)state;
    struct bench x = bench_new();
    dan_ref a = FLOATS(&x, DAN_SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    refused(&x, dan_add(&x.b, a, FLOATS(&x, DAN_SHAPE(2), 1, 2)), "[2,3] and [2]");
    x = bench_new();
    a = INTS(&x, DAN_SHAPE(2), 1, 2);
    refused(&x, dan_exp(&x.b, a), "'i32'");
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    refused(&x, dan_slice(&x.b, a, 0, -3, 1), "same end");
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    refused(&x, dan_split(&x.b, a, 1, (const int64_t[]){1, 1}, 2), "sizes sum to 2");
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    refused(&x, dan_sum(&x.b, a, 2), "axis 2");
    x = bench_new();
    a = FLOATS(&x, DAN_SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    refused(&x, dan_permute(&x.b, a, (const int[]){0, 0}), "not a permutation");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_broadcasts),
        cmocka_unit_test(activations),
        cmocka_unit_test(reductions),
        cmocka_unit_test(softmax_and_cross_entropy),
        cmocka_unit_test(shapes),
        cmocka_unit_test(fake_quant_rounds_to_the_grid),
        cmocka_unit_test(dropout_follows_its_stream),
        cmocka_unit_test(mistakes_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
