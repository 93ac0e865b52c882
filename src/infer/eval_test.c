/* Evaluation against a plain sum over logits that a session gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "infer/eval.h"
#include "infer/session.h"

enum { V = 40, N = 103, CONTEXT = 16 };
static const int64_t docs[] = {0, 37, 38, 80};         /* the second has one token: nothing to predict */
static int32_t ids[N];

static struct dan_lm new_lm(const struct dan_model *m)
{
    struct dan_lm_config cfg = {.vocab = V, .context = CONTEXT, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, m, &cfg, 9, &e)) fail_msg("%s", e.msg);
    return lm;
}

static struct dan_shards *text(void)
{
    struct dan_shards *s;
    struct dan_rng r = {.seed = 3};
    for (int i = 0; i < N; i++) ids[i] = (int32_t)dan_rng_below(&r, V);
    assert_int_equal(dan_shards_of(ids, N, docs, 4, -1, &s, NULL), 0);
    return s;
}

static int64_t doc_end(int64_t at)
{
    for (int d = 1; d < 4; d++)
        if (at < docs[d]) return docs[d];
    return N;
}

static double nats(const float *logits, int32_t target)
{
    double max = -INFINITY, sum = 0;
    for (int v = 0; v < V; v++) max = fmax(max, (double)logits[v]);
    for (int v = 0; v < V; v++) sum += exp((double)logits[v] - max);
    return max + log(sum) - (double)logits[target];
}

/* Loss of the targets [fresh + 1, to] when rows [from, to) are one sequence. */
static double piece(struct dan_session *s, int64_t from, int64_t fresh, int64_t to)
{
    static float logits[CONTEXT * V];
    double sum = 0;
    dan_session_reset(s, 0);
    assert_int_equal(dan_session_feed(s, &(struct dan_feed){0, ids + from, to - from, to - from, logits}, 1, NULL), 0);
    for (int64_t i = fresh; i < to; i++) sum += nats(logits + (i - from) * V, ids[i + 1]);
    return sum;
}

/* Windows of CONTEXT rows cut at documents. */
static double windows(struct dan_session *s, int64_t *targets)
{
    double sum = 0;
    for (int64_t w = 0; w < N - 1; w += CONTEXT)
        for (int64_t at = w, end = w + CONTEXT < N - 1 ? w + CONTEXT : N - 1, stop; at < end; at = stop) {
            stop = doc_end(at) < end ? doc_end(at) : end;
            int64_t rows = stop == doc_end(at) ? stop - 1 : stop;             /* a document's last row has no target */
            if (rows > at) sum += piece(s, at, at, rows);
            *targets += rows > at ? rows - at : 0;
        }
    return sum;
}

static double sliding(struct dan_session *s, int64_t stride)
{
    double sum = 0;
    for (int d = 0; d < 4; d++) {
        int64_t last = doc_end(docs[d]) - 1;
        for (int64_t fresh = docs[d], to; fresh < last; fresh = to) {
            to = fresh == docs[d] ? fresh + CONTEXT : fresh + stride;
            if (to > last) to = last;
            sum += piece(s, to - docs[d] > CONTEXT ? to - CONTEXT : docs[d], fresh, to);
        }
    }
    return sum;
}

static void test_protocols(void **state)
{
    (void)state;
    struct dan_shards *t = text();
    for (int m = 0; dan_models[m]; m++) {
        struct dan_lm lm = new_lm(dan_models[m]);
        struct dan_session *s;
        struct dan_eval_result r;
        struct dan_err e = {0};
        int64_t targets = 0;
        if (dan_session_new(&lm, &(struct dan_session_opts){.max_rows = CONTEXT, .max_select = CONTEXT}, &s, &e)) fail_msg("%s", e.msg);
        double want = windows(s, &targets);
        for (int64_t batch = 1; batch < 9; batch += 3) {
            if (dan_eval(&lm, t, &(struct dan_eval_opts){.context = CONTEXT, .batch = batch}, &r, &e)) fail_msg("%s", e.msg);
            assert_int_equal(r.tokens, targets);
            assert_int_equal(r.tokens, N - 4);
            assert_true(fabs(r.nats - want) < 1e-4);
            assert_true(fabs(r.perplexity - exp(want / (double)targets)) < 1e-3);
        }
        for (int64_t stride = 1; stride <= CONTEXT && !lm.model->time_major; stride *= 4) {
            if (dan_eval(&lm, t, &(struct dan_eval_opts){.context = CONTEXT, .batch = 3, .stride = stride}, &r, &e)) fail_msg("%s", e.msg);
            assert_int_equal(r.tokens, N - 4);
            assert_true(fabs(r.nats - sliding(s, stride)) < 1e-4);
        }
        dan_session_free(s);
        dan_lm_release(&lm);
    }
    dan_shards_free(t);
}

static void test_refusals(void **state)
{
    (void)state;
    struct dan_shards *t = text();
    struct dan_lm lm = new_lm(dan_model_find("gpt"));
    struct dan_eval_result r;
    assert_int_equal(dan_eval(&lm, t, &(struct dan_eval_opts){.context = CONTEXT + 1}, &r, NULL), DAN_EINVAL);
    assert_int_equal(dan_eval(&lm, t, &(struct dan_eval_opts){.context = 8, .stride = 9}, &r, NULL), DAN_EINVAL);
    dan_lm_release(&lm);
    lm = new_lm(dan_model_find("gru"));
    assert_int_equal(dan_eval(&lm, t, &(struct dan_eval_opts){.context = 8, .stride = 4}, &r, NULL), DAN_EINVAL);
    dan_lm_release(&lm);
    dan_shards_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_protocols), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
