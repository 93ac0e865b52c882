/* Folding against a direct convolution, normalisation after it, in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "pass/fold.h"

enum { IN = 3, OUT = 5, H = 6, W = 5, KH = 3, KW = 2, TAPS = IN * KH * KW, OH = H - KH + 1, OW = W - KW + 1 };

static void fill(double *x, int n, struct dan_rng *r, double scale)
{
    for (int i = 0; i < n; i++) x[i] = scale * dan_rng_normal(r);
}

/* y[o, i, j] = bias[o] + sum over c, p, q of w[o, c, p, q] x[c, i + p, j + q] */
static void convolve(const double *x, const double *w, const double *bias, double *y)
{
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < OH; i++)
            for (int j = 0; j < OW; j++) {
                double s = bias ? bias[o] : 0;
                for (int t = 0; t < TAPS; t++) s += w[o * TAPS + t] * x[(t / (KH * KW) * H + i + t / KW % KH) * W + j + t % KW];
                y[(o * OH + i) * OW + j] = s;
            }
}

static void normalise(double *y, const struct dan_channel *c, double eps)
{
    for (int i = 0; i < OUT * OH * OW; i++) {
        const struct dan_channel *k = &c[i / (OH * OW)];
        y[i] = (y[i] - k->mean) / sqrt(k->var + eps) * k->gamma + k->beta;
    }
}

static void check(uint64_t seed, double eps, bool with_bias, bool affine, double var_of_first)
{
    struct dan_rng r = {.seed = seed};
    double x[IN * H * W], w[OUT * TAPS], b[OUT], folded[OUT], want[OUT * OH * OW], got[OUT * OH * OW], largest = 0;
    struct dan_channel c[OUT];
    fill(x, IN * H * W, &r, 1);
    fill(w, OUT * TAPS, &r, .3);
    fill(b, OUT, &r, 1);
    for (int o = 0; o < OUT; o++) {
        c[o] = (struct dan_channel){with_bias ? b[o] : 0, dan_rng_normal(&r), .1 + dan_rng_uniform(&r), 1, 0};
        if (affine) c[o].gamma = dan_rng_normal(&r), c[o].beta = dan_rng_normal(&r);
    }
    if (var_of_first >= 0) c[0].var = var_of_first;
    convolve(x, w, with_bias ? b : NULL, want);
    normalise(want, c, eps);
    dan_fold_weights(w, folded, c, OUT, TAPS, eps);
    convolve(x, w, folded, got);
    for (int i = 0; i < OUT * OH * OW; i++) {
        if (i % (OH * OW) == 0) largest = 0;
        for (int j = i / (OH * OW) * OH * OW, k = 0; k < OH * OW; k++) largest = fmax(largest, fabs(want[j + k]));
        assert_true(isfinite(got[i]) && fabs(got[i] - want[i]) <= 1e-12 * largest);
    }
}

static void folding_is_exact(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        for (int k = 0; k < 4; k++) check(seed, k & 1 ? 1e-5 : 1e-3, k & 1, k & 2, -1);
}

/* eps alone keeps a channel that never varied finite. */
static void channel_without_variance(void **state)
{
    (void)state;
    check(7, 1e-5, true, true, 0);
    check(8, 1e-3, false, false, 0);
}

/* eps belongs under the root: elsewhere this channel would come out 0.5 or more off. */
static void eps_is_under_the_root(void **state)
{
    const struct dan_channel c = {.bias = 3, .mean = 1, .var = 0.75, .gamma = 2, .beta = -1};
    (void)state;
    assert_true(fabs(dan_fold_scale(&c, 0.25) - 2) < 1e-15);
    assert_true(fabs(dan_fold_bias(&c, 0.25) - 3) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(folding_is_exact), cmocka_unit_test(channel_without_variance),
                                       cmocka_unit_test(eps_is_under_the_root)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
