/* Rounding against identities that can fail for the right reason, and brute force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "quant/round.h"

enum { ROWS = 20, K = 256, SAMPLES = 600 };

struct problem { float *w, *x; struct dan_moments m; int64_t rows, k; };

/* Correlated inputs: neighbours share a walk, some columns are ten times as large. */
static struct problem make(int64_t rows, int64_t k, int64_t samples, uint64_t seed)
{
    struct dan_rng r = {.seed = seed};
    struct dan_err e = {0};
    struct problem p = {.rows = rows, .k = k, .w = dan_malloc((size_t)(rows * k) * 4), .x = dan_malloc((size_t)(samples * k) * 4)};
    for (int64_t i = 0; i < rows * k; i++) p.w[i] = (float)(dan_rng_normal(&r) * (i % 17 == 3 ? 3 : 1));
    for (int64_t s = 0; s < samples; s++) {
        double walk = dan_rng_normal(&r);
        for (int64_t j = 0; j < k; j++) {
            walk = 0.8 * walk + 0.6 * dan_rng_normal(&r);
            p.x[s * k + j] = (float)(walk * (j % 31 == 5 ? 10 : 1));
        }
    }
    if (dan_moments_new(k, true, &p.m, &e) || dan_moments_add(&p.m, p.x, samples, NULL, &e)) fail_msg("%s", e.msg);
    return p;
}

static void drop(struct problem *p)
{
    dan_free(p->w);
    dan_free(p->x);
    dan_moments_release(&p->m);
}

static struct dan_quant_form form(const char *name)
{
    struct dan_quant_form f;
    struct dan_err e = {0};
    if (dan_quant_form_find(name, &f, &e)) fail_msg("%s", e.msg);
    return f;
}

static struct dan_grid grid(const struct problem *p, const char *name)
{
    struct dan_quant_form f = form(name);
    struct dan_grid g;
    struct dan_err e = {0};
    if (dan_grid_new(&f, p->rows, p->k, p->w, &g, &e)) fail_msg("%s", e.msg);
    return g;
}

static struct dan_round_report round_with(const struct problem *p, const char *method, struct dan_grid *g, struct dan_round_opts o)
{
    const struct dan_round_method *m;
    struct dan_round_report r;
    struct dan_round_job j = {.grid = g, .w = p->w, .x = &p->m, .o = o, .report = &r};
    struct dan_err e = {0};
    if (dan_round_method_find(method, &m, &e) || dan_round(m, &j, &e)) fail_msg("%s", e.msg);
    return r;
}

/* The i-th form whose levels can be chosen one by one and that fits rows of k. */
static const char *stepping(int i, int64_t k)
{
    static const char *const own[] = {"w4_g32", "w3_g32", "w2_g64_asym", "int8", "int8_asym"};
    enum { OWN = sizeof own / sizeof *own };
    if (i < OWN) return own[i];
    i -= OWN;
    for (int t = 0; dan_dtypes[t]; t++)
        if (dan_dtypes[t]->fit && dan_dtypes[t]->put && dan_dtypes[t]->from_f32 && k % dan_dtypes[t]->block == 0 && i-- == 0) return dan_dtypes[t]->name;
    return NULL;
}

static void same_values(const struct dan_grid *a, const struct dan_grid *b, const char *what)
{
    float x[K], y[K];
    for (int64_t r = 0; r < a->rows; r++) {
        dan_grid_values(a, r, x);
        dan_grid_values(b, r, y);
        if (memcmp(x, y, (size_t)a->cols * sizeof *x)) fail_msg("%s: row %d of %s differs", what, (int)r, a->form.name);
    }
}

static void test_moments(void **state)
{
    (void)state;
    struct problem p = make(1, 48, 700, 3);
    struct dan_moments parts;
    struct dan_err e = {0};
    if (dan_moments_new(48, true, &parts, &e)) fail_msg("%s", e.msg);
    if (dan_moments_add(&parts, p.x, 100, NULL, &e) || dan_moments_add(&parts, p.x + 100 * 48, 600, NULL, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < 48; i++)
        for (int j = 0; j < 48; j++) {
            double sum = 0, size = 0;
            for (int s = 0; s < 700; s++) sum += (double)p.x[s * 48 + i] * (double)p.x[s * 48 + j], size += fabs((double)p.x[s * 48 + i] * (double)p.x[s * 48 + j]);
            assert_true(fabs(p.m.h[i * 48 + j] - sum) <= 1e-6 * size);
            assert_true(fabs(parts.h[i * 48 + j] - sum) <= 1e-6 * size);
            if (i == j) assert_true(fabs(p.m.squares[i] - sum) <= 1e-12 * size);
        }
    dan_moments_release(&parts);
    drop(&p);
}

/* tr(D A D^T) with A = H/n + lambda on the diagonal (1 + lambda where a column is dead). */
static double trace_of(const struct problem *p, const struct dan_grid *g, double lambda)
{
    float v[K];
    double sum = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        dan_grid_values(g, r, v);
        for (int64_t i = 0; i < p->k; i++)
            for (int64_t j = 0; j < p->k; j++) {
                double a = p->m.h[i * p->k + j] / (double)p->m.n;
                if (i == j) a = (a > 0 ? a : 1) + lambda;
                sum += ((double)v[i] - (double)p->w[r * p->k + i]) * a * ((double)v[j] - (double)p->w[r * p->k + j]);
            }
    }
    return sum;
}

/* sum of e^2 = tr(D H D^T), for every form, in the order of columns and in that of their size. */
static void test_gptq_identity(void **state)
{
    (void)state;
    struct problem p = make(ROWS, K, SAMPLES, 1);
    const char *name;
    for (int i = 0; (name = stepping(i, K)); i++)
        for (int act = 0; act < 2; act++) {
            struct dan_round_opts o = {.act_order = act};
            struct dan_gptq_factor f;
            struct dan_err e = {0};
            struct dan_grid g = grid(&p, name);
            double e2 = 0;
            if (dan_gptq_factor(&p.m, &o, &f, &e) || dan_gptq_columns(&g, p.w, &f, &o, NULL, &e2, &e)) fail_msg("%s", e.msg);
            double trace = trace_of(&p, &g, f.lambda);
            if (!(fabs(trace - e2) <= 1e-8 * trace)) fail_msg("%s: sum e^2 %.12g, trace %.12g", name, e2, trace);
            dan_gptq_factor_release(&f);
            dan_grid_release(&g);
        }
    drop(&p);
}

/* The loop over columns is the same in any block, bit for bit. */
static void test_gptq_blocks(void **state)
{
    (void)state;
    struct problem p = make(ROWS, K, SAMPLES, 2);
    struct dan_grid a = grid(&p, "w3_g32"), b = grid(&p, "w3_g32");
    round_with(&p, "gptq", &a, (struct dan_round_opts){.block = 32, .any = true});
    round_with(&p, "gptq", &b, (struct dan_round_opts){.block = K, .any = true});
    same_values(&a, &b, "blocks of 32 and 256");
    dan_grid_release(&a);
    dan_grid_release(&b);
    drop(&p);
}

/* H = I: there is nothing to make good. */
static void test_gptq_identity_matrix(void **state)
{
    (void)state;
    struct problem p = make(ROWS, K, SAMPLES, 4);
    const char *name;
    memset(p.m.h, 0, sizeof(double) * K * K);
    for (int i = 0; i < K; i++) p.m.h[i * K + i] = (double)p.m.n;
    for (int i = 0; (name = stepping(i, K)); i++)
        for (int act = 0; act < 2; act++) {
            struct dan_grid a = grid(&p, name), b = grid(&p, name);
            round_with(&p, "gptq", &a, (struct dan_round_opts){.plain_scales = true, .act_order = act, .any = true});
            for (int64_t r = 0; r < ROWS; r++)                 /* fit, then put of every weight: nearest without refining */
                for (int64_t c = 0; c < K; c++) {
                    if (c % b.group == 0) dan_grid_fit(&b, r, c, p.w + r * K + c, NULL);
                    dan_grid_put(&b, r, c, p.w[r * K + c]);
                }
            same_values(&a, &b, "gptq with H = I");
            dan_grid_release(&a);
            dan_grid_release(&b);
        }
    drop(&p);
}

static void test_gptq_singular(void **state)
{
    (void)state;
    struct problem p = make(4, 64, 10, 5);                     /* fewer samples than columns */
    struct dan_gptq_factor f;
    struct dan_err e = {0};
    if (dan_gptq_factor(&p.m, &(struct dan_round_opts){.damp = 1e-17}, &f, &e)) fail_msg("%s", e.msg);
    assert_true(f.retries > 0 && f.damp > 1e-17);
    dan_gptq_factor_release(&f);
    for (int i = 0; i < 64; i++) p.m.h[i * 64 + 7] = p.m.h[7 * 64 + i] = 0;
    struct dan_grid g = grid(&p, "w4_g32");
    struct dan_round_report r = round_with(&p, "gptq", &g, (struct dan_round_opts){.any = true});
    assert_int_equal(r.dead, 1);
    assert_true(r.damp == 0.01);
    dan_grid_release(&g);
    p.m.h[0] = NAN;
    assert_int_equal(dan_gptq_factor(&p.m, &(struct dan_round_opts){0}, &f, &e), DAN_EINVAL);
    drop(&p);
}

/* Every method on every form: never worse than nearest on its own inputs, and clearly better where it should be. */
static void test_methods(void **state)
{
    (void)state;
    struct problem p = make(ROWS, K, SAMPLES, 6);
    const char *name;
    double ratio = 0;
    int n = 0;
    for (int i = 0; (name = stepping(i, K)); i++)
        for (int m = 0; dan_round_methods[m]; m++) {
            struct dan_grid g = grid(&p, name);
            struct dan_round_report r = round_with(&p, dan_round_methods[m]->name, &g, (struct dan_round_opts){.steps = 60});
            assert_true(r.loss <= r.loss_nearest * (1 + 1e-12) && r.loss >= 0);
            assert_true(r.error >= 0 && r.error < 1);
            if (!strcmp(dan_round_methods[m]->name, "gptq")) ratio += r.loss / r.loss_nearest, n++;
            dan_grid_release(&g);
        }
    assert_true(ratio / n < 0.75);
    drop(&p);
}

static void test_mse(void **state)
{
    (void)state;
    struct problem p = make(ROWS, K, SAMPLES, 7);
    const char *name;
    for (int i = 0; (name = stepping(i, K)); i++) {
        struct dan_grid a = grid(&p, name), b = grid(&p, name);
        double nearest = round_with(&p, "nearest", &a, (struct dan_round_opts){0}).error;
        double mse = round_with(&p, "mse", &b, (struct dan_round_opts){.any = true}).error;
        if (!(mse <= nearest * (1 + 1e-9))) fail_msg("%s: mse %.6g, nearest %.6g", name, mse, nearest);
        dan_grid_release(&a);
        dan_grid_release(&b);
    }
    drop(&p);
}

/* Ten weights, two levels each: learned rounding against all 1024. */
static void test_learned(void **state)
{
    (void)state;
    enum { N = 10, GROUP = 32 };
    int better = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct problem p = make(1, GROUP, 200, seed);
        for (int i = N; i < GROUP; i++) p.w[i] = 0;            /* on a level: no choice */
        struct dan_grid g = grid(&p, "w3_g32"), t = grid(&p, "w3_g32");
        struct dan_round_report a = round_with(&p, "adaround", &g, (struct dan_round_opts){0});
        float low[N], high[N], scratch[GROUP], v[GROUP];
        double best = INFINITY, power = 0;
        for (int i = 0; i < GROUP; i++) v[i] = (float)(p.m.squares[i] / (double)p.m.n);
        dan_grid_fit_best(&t, 0, 0, p.w, v, scratch);
        for (int i = 0; i < N; i++) {
            float at = dan_grid_put(&t, 0, i, p.w[i]), step = fabsf(t.scale[0]), other = dan_grid_put(&t, 0, i, at + (p.w[i] > at ? step : -step));
            low[i] = at < other ? at : other;
            high[i] = at < other ? other : at;
        }
        for (int i = 0; i < GROUP; i++)
            for (int j = 0; j < GROUP; j++) power += (double)p.w[i] * (double)p.w[j] * p.m.h[i * GROUP + j];
        for (int bits = 0; bits < 1 << N; bits++) {
            double loss = 0;
            for (int i = 0; i < GROUP; i++) v[i] = i < N ? (bits >> i & 1 ? high[i] : low[i]) - p.w[i] : 0;
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) loss += (double)v[i] * (double)v[j] * p.m.h[i * GROUP + j];
            best = loss < best ? loss : best;
        }
        assert_true(a.loss <= a.loss_nearest);
        assert_true(a.loss <= 2 * best / power + 1e-12);
        if (!strcmp(a.kept, "adaround")) assert_true(a.soft > 0 && a.loss <= 1.05 * a.soft);     /* the last rounding costs nothing */
        better += a.loss < 0.9 * a.loss_nearest;
        dan_grid_release(&g);
        dan_grid_release(&t);
        drop(&p);
    }
    assert_true(better >= 3);
}

static void test_refused(void **state)
{
    (void)state;
    struct problem p = make(3, 64, 10, 8);
    struct dan_grid g = grid(&p, "w4_g32");
    const struct dan_round_method *m;
    struct dan_round_job j = {.grid = &g, .w = p.w};
    struct dan_err e = {0};
    assert_int_equal(dan_round_method_find("gptq", &m, &e), 0);
    assert_int_equal(dan_round(m, &j, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "--calibration"));
    e = (struct dan_err){0};
    p.w[70] = NAN;
    assert_int_equal(dan_round_method_find("nearest", &m, &e), 0);
    assert_int_equal(dan_round(m, &j, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "row 1 "));
    e = (struct dan_err){0};
    assert_int_equal(dan_round_method_find("nosuch", &m, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "adaround"));
    struct dan_quant_form f;
    assert_int_equal(dan_quant_form_find("q9_9", &f, NULL), DAN_EINVAL);
    assert_int_equal(dan_quant_form_find("w9_g32", &f, NULL), DAN_EINVAL);
    f = form("w4_g32");
    assert_true(dan_quant_form_misfit(&f, 48, NULL, 0));
    dan_grid_release(&g);
    drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_moments),       cmocka_unit_test(test_gptq_identity),
                                       cmocka_unit_test(test_gptq_blocks),   cmocka_unit_test(test_gptq_identity_matrix),
                                       cmocka_unit_test(test_gptq_singular), cmocka_unit_test(test_methods),
                                       cmocka_unit_test(test_mse),           cmocka_unit_test(test_learned),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
