/* The ops that imitate quantised numbers, against their definitions: forward grids, and the gradients that are choices and
 * that no finite difference can confirm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "op/fake_quant.h"
#include "pass/pass.h"

enum { MAX = 512 };
struct net {                                   /* y = op(x [rows,cols], s), loss = sum(c y) */
    struct dan_graph *g;
    struct dan_builder b;
    struct dan_program *p;
    dan_ref x, s, a, seed;
    int64_t rows, cols;
    float data[MAX], scale[MAX], slope[1], up[MAX];
    int32_t seeds[2];
};

static void net_new(struct net *t, int64_t rows, int64_t cols, struct dan_shape scales)
{
    *t = (struct net){.g = dan_graph_new(), .rows = rows, .cols = cols, .slope = {0.2f}, .seeds = {7, 1}};
    assert_true(rows * cols <= MAX);
    dan_builder_init(&t->b, t->g);
    t->x = dan_param(&t->b, "x", &dan_dtype_f32, DAN_SHAPE(rows, cols), "zeros");
    t->s = dan_param(&t->b, "s", &dan_dtype_f32, scales, "zeros");
    t->a = dan_param(&t->b, "a", &dan_dtype_f32, DAN_SHAPE(1), "zeros");
    t->seed = dan_input(&t->b, "seed", &dan_dtype_i32, DAN_SHAPE(2), 0);
    for (int i = 0; i < MAX; i++) t->up[i] = 1;
}

static void bind(struct net *t, const char *name, const struct dan_dtype *type, void *data)
{
    struct dan_err e = {0};
    dan_ref r = dan_leaf(t->g, name);
    if (!r) return;
    struct dan_tensor v = dan_tensor_of(type, t->g->node[r].shape, data);
    if (dan_bind(t->p, name, &v, &e)) fail_msg("%s", e.msg);
}

static void net_build(struct net *t, dan_ref y)
{
    struct dan_err e = {0};
    const struct dan_exec_opts o = {.ref = true};
    dan_ref up = dan_input(&t->b, "up", &dan_dtype_f32, DAN_SHAPE(t->rows, t->cols), 0);
    dan_output(&t->b, "y", y);
    dan_output(&t->b, "loss", dan_sum_all(&t->b, dan_mul(&t->b, y, up)));
    if (dan_builder_check(&t->b, &e) || dan_run_passes(t->g, "autodiff,dce", NULL, &e) || dan_compile(t->g, &o, &t->p, &e)) fail_msg("%s", e.msg);
}

static void net_run(struct net *t)
{
    struct dan_err e = {0};
    bind(t, "x", &dan_dtype_f32, t->data);
    bind(t, "s", &dan_dtype_f32, t->scale);
    bind(t, "a", &dan_dtype_f32, t->slope);
    bind(t, "seed", &dan_dtype_i32, t->seeds);
    bind(t, "up", &dan_dtype_f32, t->up);
    if (dan_run(t->p, &e)) fail_msg("%s", e.msg);
}

static const float *got(const struct net *t, const char *name) { return dan_result_named(t->p, name)->data; }

static void net_free(struct net *t)
{
    dan_program_free(t->p);
    dan_graph_free(t->g);
}

static void randoms(float *x, int n, uint64_t seed, double by)
{
    struct dan_rng r = {.seed = seed};
    for (int i = 0; i < n; i++) x[i] = (float)(by * dan_rng_normal(&r));
}

/* ---- forward ------------------------------------------------------------------------------- */

static void dynamic_scales_are_those_of_the_formats(void **state)
{
    (void)state;
    struct net t;
    net_new(&t, 2, 4, DAN_SHAPE(1));
    net_build(&t, dan_fake_quant_dynamic(&t.b, t.x, (struct dan_quant_grid){3, 4, DAN_QUANT_FULL}));
    const float x[] = {4, -1.4f, 0.6f, -4, 0, 0, 0, 0};        /* m = 4, the first of the largest: s = 4 / -4 */
    memcpy(t.data, x, sizeof x);
    net_run(&t);
    const float want[] = {4, -1, 1, -3, 0, 0, 0, 0};           /* -4 / s = 4 is clipped to 3 */
    assert_memory_equal(got(&t, "y"), want, sizeof want);
    net_free(&t);
}

static void a_format_gives_its_own_numbers(void **state)
{
    (void)state;
    struct net t;
    const struct dan_dtype *q = &dan_dtype_q8_0;
    float want[256];
    char row[512];
    net_new(&t, 4, 64, DAN_SHAPE(1));
    net_build(&t, dan_fake_quant_format(&t.b, t.x, q));
    randoms(t.data, 256, 3, 1);
    net_run(&t);
    for (int r = 0; r < 4; r++) {
        q->from_f32(t.data + 64 * r, row, 64);
        q->to_f32(row, want + 64 * r, 64);
    }
    assert_memory_equal(got(&t, "y"), want, sizeof want);
    assert_true(dan_quant_format_of(dan_quant_format_attr(q)) == q);
    for (int i = 0; i < 256; i++) assert_true(got(&t, "grad:x")[i] == 1);
    net_free(&t);
}

static void given_scales_round_to_their_multiples(void **state)
{
    (void)state;
    struct net t;
    net_new(&t, 2, 6, DAN_SHAPE(2, 2));
    net_build(&t, dan_fake_quant_step(&t.b, t.x, t.s, (struct dan_quant_grid){3, 3, 0}, DAN_RULE_PASS, 0, 1));
    const float x[] = {0.5f, 1.5f, -9, 1, 2.9f, 3.1f, 0.24f, -0.26f, 0, 7, -7, 1}, s[] = {1, 2, 0.5f, -1};
    memcpy(t.data, x, sizeof x);
    memcpy(t.scale, s, sizeof s);
    net_run(&t);
    const float want[] = {0, 2, -3, 0, 2, 4, 0, -0.5f, 0, 3, -3, 1};           /* halves to even; a negative scale counts as positive */
    assert_memory_equal(got(&t, "y"), want, sizeof want);
    net_free(&t);
}

/* ---- gradients by rule --------------------------------------------------------------------- */

/* Ten numbers with s = 0.5 and levels -4..3 (3 bits, all): both clips, both borders, halves, inside. */
static const float TEN[] = {-3, -2, -1.999f, -0.3f, 0, 0.25f, 0.6f, 1.4f, 1.5f, 2.5f};

static void run_ten(struct net *t, enum dan_quant_rule rule, double slope, double gain)
{
    net_new(t, 1, 10, DAN_SHAPE(1));
    net_build(t, dan_fake_quant_step(&t->b, t->x, t->s, (struct dan_quant_grid){3, 0, DAN_QUANT_FULL}, rule, slope, gain));
    memcpy(t->data, TEN, sizeof TEN);
    t->scale[0] = 0.5f;
    net_run(t);
}

static void lsq_is_its_closed_form(void **state)
{
    (void)state;
    struct net t;
    double sum = 0;
    run_ten(&t, DAN_RULE_LSQ, 0, 0.125);
    for (int i = 0; i < 10; i++) {
        float u = TEN[i] / 0.5f;
        bool in = u > -4 && u < 3;
        assert_true(got(&t, "grad:x")[i] == (in ? 1 : 0));
        sum += in ? rintf(u) - u : u <= -4 ? -4 : 3;
    }
    /* by hand: -4 -4 -.002 -.4 +0 -.5 -.2 +.2 +3 +3 (0.25 / 0.5 is a half and goes to 0) */
    assert_true(fabs(sum - (-4 - 4 - 0.002 - 0.4 + 0 - 0.5 - 0.2 + 0.2 + 3 + 3)) < 1e-5);
    assert_true(fabs(got(&t, "grad:s")[0] - 0.125 * sum) < 1e-6);
    net_free(&t);
}

/* Clipped: PyTorch's mask, on the rounded level, with both edges. */
static void clipped_keeps_what_rounds_into_the_levels(void **state)
{
    (void)state;
    struct net t;
    run_ten(&t, DAN_RULE_CLIP, 0, 1);
    const float want[] = {0, 1, 1, 1, 1, 1, 1, 1, 1, 0};
    assert_memory_equal(got(&t, "grad:x"), want, sizeof want);
    net_free(&t);
}

/* PACT: ds is the difference quotient of clip(x, lo s, hi s), without the rounding. */
static void pact_is_the_derivative_of_the_clip(void **state)
{
    (void)state;
    struct net t;
    double fd = 0, h = 1e-4;
    run_ten(&t, DAN_RULE_PACT, 0, 1);
    for (int i = 0; i < 10; i++) {
        double up = fmin(fmax(TEN[i], -4 * (0.5 + h)), 3 * (0.5 + h)), down = fmin(fmax(TEN[i], -4 * (0.5 - h)), 3 * (0.5 - h));
        if (TEN[i] == -2 || TEN[i] == 1.5f) fd += TEN[i] < 0 ? -4 : 3;       /* on the border: the side of the clip */
        else fd += (up - down) / (2 * h);
        assert_true(got(&t, "grad:x")[i] == (TEN[i] > -2 && TEN[i] < 1.5f ? 1 : 0));
    }
    assert_true(fabs(got(&t, "grad:s")[0] - fd) < 1e-5);
    net_free(&t);
}

/* DSQ with its hard forward: the gradient is the difference quotient of the soft one. */
static void dsq_is_the_derivative_of_the_soft_staircase(void **state)
{
    (void)state;
    struct net hard, soft;
    const struct dan_quant_grid q = {4, 0, 0};
    net_new(&hard, 1, 64, DAN_SHAPE(1));
    net_build(&hard, dan_fake_quant_step(&hard.b, hard.x, hard.s, q, DAN_RULE_DSQ, 0.2, 1));
    net_new(&soft, 1, 64, DAN_SHAPE(1));
    net_build(&soft, dan_fake_quant_soft(&soft.b, soft.x, soft.s, soft.a, q));
    randoms(hard.data, 64, 9, 1);
    memcpy(soft.data, hard.data, sizeof soft.data);
    hard.scale[0] = soft.scale[0] = 0.2f;
    net_run(&hard);
    net_run(&soft);
    for (int i = 0; i < 64; i++) assert_true(fabsf(got(&hard, "grad:x")[i] - got(&soft, "grad:x")[i]) < 1e-6f);
    assert_true(fabsf(got(&hard, "grad:s")[0] - got(&soft, "grad:s")[0]) < 1e-4f);
    for (int i = 0; i < 64; i++) assert_true(got(&hard, "y")[i] == 0.2f * rintf(fminf(fmaxf(hard.data[i] / 0.2f, -7), 7)));
    net_free(&hard);
    net_free(&soft);
}

/* ---- DSQ's soft staircase ------------------------------------------------------------------ */

static void soft_on(struct net *t, const float *x, int n, float slope)
{
    net_new(t, 1, n, DAN_SHAPE(1));
    net_build(t, dan_fake_quant_soft(&t->b, t->x, t->s, t->a, (struct dan_quant_grid){3, 0, DAN_QUANT_FULL}));
    memcpy(t->data, x, sizeof *x * (size_t)n);
    t->scale[0] = 1;
    t->slope[0] = slope;
    net_run(t);
}

static void the_staircase_is_continuous_and_meets_the_levels(void **state)
{
    (void)state;
    struct net t;
    float x[24];
    for (int k = 0; k < 8; k++) {
        x[3 * k] = (float)(k - 4) - 1e-7f;
        x[3 * k + 1] = (float)(k - 4);
        x[3 * k + 2] = (float)(k - 4) + 1e-7f;
    }
    const float slopes[] = {0.4f, 0.2f, 0.01f};
    for (int j = 0; j < 3; j++) {
        soft_on(&t, x, 24, slopes[j]);
        for (int k = 0; k < 24; k++) assert_true(fabs(got(&t, "y")[k] - (k / 3 - 4)) < 1e-6);
        net_free(&t);
    }
}

/* Mean slope over every step: the midpoint rule over 256 points; centre and edge as published for alpha 0.4 and 0.2. */
static void the_mean_slope_of_a_step_is_one(void **state)
{
    (void)state;
    struct net t;
    float x[256];
    for (int k = -4; k < 3; k++) {
        double sum = 0;
        for (int i = 0; i < 256; i++) x[i] = (float)k + ((float)i + 0.5f) / 256;
        soft_on(&t, x, 256, 0.2f);
        for (int i = 0; i < 256; i++) sum += got(&t, "grad:x")[i];
        assert_true(fabs(sum / 256 - 1) < 1e-4);
        assert_true(fabs(got(&t, "grad:x")[127] - 1.373) < 1e-3 && fabs(got(&t, "grad:x")[0] - 0.494) < 1e-2);
        net_free(&t);
    }
    soft_on(&t, (const float[]){0.5f, 0.00001f}, 2, 0.4f);
    assert_true(fabs(got(&t, "grad:x")[0] - 1.155) < 1e-3 && fabs(got(&t, "grad:x")[1] - 0.739) < 1e-3);
    net_free(&t);
}

static void a_steep_staircase_is_round(void **state)
{
    (void)state;
    struct net t;
    float x[200];
    for (int i = 0; i < 200; i++) x[i] = -4.5f + (float)i * 0.0411f;
    soft_on(&t, x, 200, 1e-6f);
    for (int i = 0; i < 200; i++) {
        float u = fminf(fmaxf(x[i], -4), 3), from_half = fabsf(u - floorf(u) - 0.5f);
        if (from_half > 0.3f) assert_true(fabsf(got(&t, "y")[i] - rintf(u)) < 2e-4f);
    }
    net_free(&t);
}

/* ---- noise --------------------------------------------------------------------------------- */

static void noise(struct net *t, double p)
{
    net_new(t, 8, 64, DAN_SHAPE(1));
    net_build(t, dan_quant_noise(&t->b, t->x, dan_fake_quant(&t->b, t->x, 3, 32), t->seed, p, 5));
    randoms(t->data, 512, 4, 1);
    net_run(t);
}

static int count_rounded(const struct net *t)
{
    int n = 0;
    for (int i = 0; i < 512; i++) n += got(t, "y")[i] != t->data[i];
    return n;
}

static void noise_of_zero_is_float_and_of_one_is_straight_through(void **state)
{
    (void)state;
    struct net t, ste;
    noise(&t, 0);
    assert_memory_equal(got(&t, "y"), t.data, sizeof t.data);
    net_free(&t);
    net_new(&ste, 8, 64, DAN_SHAPE(1));
    net_build(&ste, dan_fake_quant(&ste.b, ste.x, 3, 32));
    randoms(ste.data, 512, 4, 1);
    net_run(&ste);
    noise(&t, 1);
    assert_memory_equal(got(&t, "y"), got(&ste, "y"), sizeof t.data);
    for (int i = 0; i < 512; i++) assert_true(got(&t, "grad:x")[i] == 1);
    net_free(&t);
    net_free(&ste);
}

/* The rate within five deviations, 512 p +- 5 sqrt(512 p (1-p)); the same seed the same choice, another step another. */
static void noise_is_fresh_and_has_its_rate(void **state)
{
    (void)state;
    struct net t;
    float first[512];
    noise(&t, 0.3);
    memcpy(first, got(&t, "y"), sizeof first);
    int n = count_rounded(&t);
    assert_true(fabs(n - 512 * 0.3) < 5 * sqrt(512 * 0.3 * 0.7));
    net_run(&t);
    assert_memory_equal(got(&t, "y"), first, sizeof first);
    t.seeds[1] = 2;
    net_run(&t);
    assert_memory_not_equal(got(&t, "y"), first, sizeof first);
    net_free(&t);
}

/* ---- LSQ finds the best step --------------------------------------------------------------- */

static double error_of(const float *x, int n, double s, double hi)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double q = nearbyint(x[i] / s), d = x[i] - s * fmin(fmax(q, -hi), hi);
        sum += d * d;
    }
    return sum;
}

/* Descends mean (y - x)^2 by LSQ's gradient: dL/dy = 2 (y - x) / n, from a step that is twice too large. */
static double descend(struct net *t, double from)
{
    t->scale[0] = (float)from;
    for (int k = 0; k < 600; k++) {
        memset(t->up, 0, sizeof t->up);
        net_run(t);
        for (int i = 0; i < 512; i++) t->up[i] = 2 * (got(t, "y")[i] - t->data[i]) / 512;
        net_run(t);
        t->scale[0] -= 0.3f * (float)(0.02 / (0.02 + 0.001 * k)) * got(t, "grad:s")[0] * t->scale[0];
        assert_true(t->scale[0] > 0);
    }
    return (double)t->scale[0];
}

static void lsq_learns_the_step_of_least_error(void **state)
{
    (void)state;
    const int bits[] = {2, 3, 4};
    for (int j = 0; j < 3; j++) {
        struct net t;
        double hi = (double)dan_quant_hi(bits[j]), best = 1, least = INFINITY;
        net_new(&t, 8, 64, DAN_SHAPE(1));
        net_build(&t, dan_fake_quant_step(&t.b, t.x, t.s, (struct dan_quant_grid){bits[j], 0, 0}, DAN_RULE_LSQ, 0, 1));
        randoms(t.data, 512, 21, 1);
        for (double s = 0.05; s < 3; s += 0.002)
            if (error_of(t.data, 512, s, hi) < least) least = error_of(t.data, 512, best = s, hi);
        double learned = descend(&t, 2 * best);
        /* the error is flat and jagged near its least: within 3 % of the error, not of the step */
        if (error_of(t.data, 512, learned, hi) > 1.03 * least)
            fail_msg("%d bits: learned step %g has error %g, the best, %g, %g", bits[j], learned, error_of(t.data, 512, learned, hi), best, least);
        net_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dynamic_scales_are_those_of_the_formats),
        cmocka_unit_test(a_format_gives_its_own_numbers),
        cmocka_unit_test(given_scales_round_to_their_multiples),
        cmocka_unit_test(lsq_is_its_closed_form),
        cmocka_unit_test(clipped_keeps_what_rounds_into_the_levels),
        cmocka_unit_test(pact_is_the_derivative_of_the_clip),
        cmocka_unit_test(dsq_is_the_derivative_of_the_soft_staircase),
        cmocka_unit_test(the_staircase_is_continuous_and_meets_the_levels),
        cmocka_unit_test(the_mean_slope_of_a_step_is_one),
        cmocka_unit_test(a_steep_staircase_is_round),
        cmocka_unit_test(noise_of_zero_is_float_and_of_one_is_straight_through),
        cmocka_unit_test(noise_is_fresh_and_has_its_rate),
        cmocka_unit_test(lsq_learns_the_step_of_least_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
