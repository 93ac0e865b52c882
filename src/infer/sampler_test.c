/* Each transformation against numbers worked out by hand from transformers' definitions; the draw against its frequencies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "infer/sampler.h"

enum { V = 6 };
/* Probabilities 0.4 0.3 0.15 0.1 0.04 0.01, in the order of the ids 3 0 5 1 4 2. */
static const double prob[V] = {0.3, 0.1, 0.01, 0.4, 0.04, 0.15};
static float logits[V];

static int setup(void **state)
{
    for (int i = 0; i < V; i++) logits[i] = (float)log(prob[i]);
    *state = NULL;
    return 0;
}

/* Ids that stay, as digits: "035". */
static void stays(const struct dan_sampling *p, const float *x, const char *want)
{
    struct dan_draw *d;
    char got[V + 1] = {0};
    assert_int_equal(dan_draw_new(V, &d, NULL), 0);
    const struct dan_candidates *c = dan_draw_candidates(d, p, x, NULL, 0);
    for (int64_t i = 0; i < c->n; i++) got[i] = (char)('0' + c->id[i]);
    assert_string_equal(got, want);
    dan_draw_free(d);
}

static void test_filters(void **state)
{
    (void)state;
    struct dan_sampling p = DAN_SAMPLING_PLAIN;
    stays(&p, logits, "012345");
    p.top_k = 1;
    stays(&p, logits, "3");
    p.top_k = 3;
    stays(&p, logits, "035");
    p.top_k = 60;
    stays(&p, logits, "012345");
    p = DAN_SAMPLING_PLAIN;
    p.top_p = 0.39;
    stays(&p, logits, "3");
    p.top_p = 0.41;
    stays(&p, logits, "03");
    p.top_p = 0.86;
    stays(&p, logits, "0135");
    p.top_p = 1e-9;
    stays(&p, logits, "3");
    p = DAN_SAMPLING_PLAIN;
    p.min_p = 0.26;
    stays(&p, logits, "035");
    p.min_p = 1;
    stays(&p, logits, "3");
}

/* top_p sees what temperature made of the logits: at 2 they go as the square root, 0.2932 0.2539 0.1796 0.1466 0.0927 0.0464. */
static void test_order(void **state)
{
    (void)state;
    struct dan_sampling p = DAN_SAMPLING_PLAIN;
    p.top_p = 0.69;
    stays(&p, logits, "03");
    p.temperature = 2;
    stays(&p, logits, "035");
    p.top_k = 2;                               /* leaves 0.536 0.464: the second is needed to reach 0.69 */
    stays(&p, logits, "03");
    p.top_p = 0.53;
    stays(&p, logits, "3");
}

static void test_ties(void **state)
{
    (void)state;
    const float same[V] = {1, 2, 2, 2, 0, 1};
    struct dan_sampling p = DAN_SAMPLING_PLAIN;
    p.top_k = 2;
    stays(&p, same, "123");                    /* equal to the k-th: stays, as in transformers */
    p.top_k = 0;
    p.top_p = 0.5;                             /* each 2 has 0.2656 */
    stays(&p, same, "12");
}

/* top_p against the definition: sort, add up, cut. */
struct pair { float logit; int32_t id; };
static int by_logit(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id - y->id;
}

static int64_t nucleus(const float *x, int n, double top_p, uint8_t *in)
{
    static struct pair all[500];
    double total = 0, sum = 0;
    int64_t k = 0;
    for (int i = 0; i < n; i++) all[i] = (struct pair){x[i], i};
    qsort(all, (size_t)n, sizeof *all, by_logit);
    for (int i = 0; i < n; i++) total += exp((double)all[i].logit - (double)all[0].logit);
    memset(in, 0, 500);
    for (; k < n && sum < top_p - 1e-7; k++) {
        in[all[k].id] = 1;
        sum += exp((double)all[k].logit - (double)all[0].logit) / total;
    }
    return k;
}

static void test_top_p(void **state)
{
    (void)state;
    static float x[500];
    uint8_t in[500];
    struct dan_rng r = {.seed = 4};
    for (int round = 0; round < 400; round++) {
        int n = 1 + (int)dan_rng_below(&r, 500), differ = 0;
        double spread = 6 * dan_rng_uniform(&r), p = 0.01 + 0.989 * dan_rng_uniform(&r);
        for (int i = 0; i < n; i++) x[i] = (float)(spread * dan_rng_normal(&r));
        for (int i = 0; i < n && round % 3 == 0; i++) x[i] = roundf(x[i]);     /* many ties */
        struct dan_sampling o = DAN_SAMPLING_PLAIN;
        struct dan_draw *d;
        o.top_p = p;
        assert_int_equal(dan_draw_new(n, &d, NULL), 0);
        const struct dan_candidates *c = dan_draw_candidates(d, &o, x, NULL, 0);
        int64_t want = nucleus(x, n, p, in);
        for (int64_t i = 0; i < c->n; i++) differ += !in[c->id[i]];
        assert_true(c->n >= want && c->n <= want + 1 && differ <= 1);          /* one more where rounding decides */
        dan_draw_free(d);
    }
}

static void test_penalty(void **state)
{
    (void)state;
    const float x[V] = {2, -2, 3, 0.5f, -1, 1};
    const int32_t history[] = {1, 2, 2, 99, -1};
    struct dan_sampling p = DAN_SAMPLING_PLAIN;
    struct dan_draw *d;
    assert_int_equal(dan_draw_new(V, &d, NULL), 0);
    p.repetition_penalty = 2;
    const struct dan_candidates *c = dan_draw_candidates(d, &p, x, history, 5);
    const float want[V] = {2, -4, 1.5f, 0.5f, -1, 1};
    assert_memory_equal(c->logit, want, sizeof want);
    p.temperature = 0;
    assert_int_equal(dan_draw_token(d, &p, x, history, 5, 0), 0);
    assert_int_equal(dan_draw_token(d, &p, x, NULL, 0, 0), 2);
    const float level[V] = {0, 7, 7, 1, 7, 7};
    assert_int_equal(dan_draw_token(d, &p, level, NULL, 0, 0), 1);
    dan_draw_free(d);
}

static void test_draw(void **state)
{
    (void)state;
    enum { N = 60000 };
    int count[V] = {0};
    struct dan_sampling p = DAN_SAMPLING_PLAIN;
    struct dan_draw *d;
    assert_int_equal(dan_draw_new(V, &d, NULL), 0);
    for (int i = 0; i < N; i++) count[dan_draw_token(d, &p, logits, NULL, 0, (uint64_t)i)]++;
    for (int v = 0; v < V; v++) {              /* five standard deviations */
        double sigma = sqrt(N * prob[v] * (1 - prob[v]));
        assert_true(fabs(count[v] - N * prob[v]) < 5 * sigma);
    }
    for (int i = 0; i < 50; i++)
        assert_int_equal(dan_draw_token(d, &p, logits, NULL, 0, 17), dan_draw_token(d, &p, logits, NULL, 0, 17));
    int differ = 0;
    for (uint64_t i = 0; i < 50; i++) {
        struct dan_sampling other = p;
        other.stream = 1;
        differ += dan_draw_token(d, &p, logits, NULL, 0, i) != dan_draw_token(d, &other, logits, NULL, 0, i);
    }
    assert_true(differ > 10);
    dan_draw_free(d);
}

/* A broken model must not break the program. */
static void test_not_finite(void **state)
{
    (void)state;
    const float nan_only[V] = {NAN, NAN, NAN, NAN, NAN, NAN}, some[V] = {NAN, -INFINITY, 1, NAN, 0.5f, NAN};
    struct dan_sampling p = {.temperature = 0.7, .top_k = 3, .top_p = 0.9, .min_p = 0.1, .repetition_penalty = 1.1};
    struct dan_draw *d;
    assert_int_equal(dan_draw_new(V, &d, NULL), 0);
    int32_t t = dan_draw_token(d, &p, nan_only, NULL, 0, 1);
    assert_true(t >= 0 && t < V);
    for (uint64_t i = 0; i < 20; i++) {
        t = dan_draw_token(d, &p, some, NULL, 0, i);
        assert_true(t == 2 || t == 4);
    }
    dan_draw_free(d);
}

static void test_check(void **state)
{
    (void)state;
    struct dan_sampling p = DAN_SAMPLING_PLAIN;
    assert_int_equal(dan_sampling_check(&p, NULL), 0);
    p.top_p = 1.5;
    assert_int_equal(dan_sampling_check(&p, NULL), DAN_EINVAL);
    p = DAN_SAMPLING_PLAIN;
    p.temperature = NAN;
    assert_int_equal(dan_sampling_check(&p, NULL), DAN_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters), cmocka_unit_test(test_order), cmocka_unit_test(test_ties),       cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_penalty), cmocka_unit_test(test_draw),  cmocka_unit_test(test_not_finite), cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
