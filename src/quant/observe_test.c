/* Rows that products read against rows computed by hand, and what calibration makes of a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "infer/eval.h"
#include "infer/session.h"
#include "quant/calibration.h"

enum { V = 40, N = 96, SEQS = 7, CONTEXT = 24 };
static const int64_t start[SEQS + 1] = {0, 24, 25, 40, 41, 60, 84, 96};
static int32_t ids[N];
static const struct dan_sequences text = {ids, start, SEQS};

static struct dan_lm new_lm(const char *family, int64_t layers, bool tied)
{
    struct dan_lm_config cfg = {.vocab = V, .context = CONTEXT, .hidden = 32, .layers = layers, .heads = 4, .tied = tied, .bias = true,
                                .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (strcmp(family, "gpt")) cfg.kv_heads = 2;
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 9, &e)) fail_msg("%s", e.msg);
    struct dan_rng r = {.seed = 3};
    for (int i = 0; i < N; i++) ids[i] = (int32_t)dan_rng_below(&r, V);
    return lm;
}

/* Everything that was seen, by product. */
struct seen { const char *only; char name[32][64]; float *x[32]; int64_t rows[32], k[32]; int32_t input[32]; int n, calls; };

static int see(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    struct seen *s = ctx;
    int i = 0;
    (void)e;
    s->calls++;
    while (i < s->n && strcmp(s->name[i], p->name)) i++;
    if (i == s->n) {
        s->n++;
        strcpy(s->name[i], p->name);
        s->x[i] = dan_calloc((size_t)(N * p->k), sizeof(float));
        s->k[i] = p->k;
        s->input[i] = p->input;
    }
    memcpy(s->x[i] + s->rows[i] * p->k, x, (size_t)(n * p->k) * sizeof *x);
    s->rows[i] += n;
    return DAN_OK;
}

static bool wants(void *ctx, const struct dan_product *p) { return strstr(p->name, ((struct seen *)ctx)->only); }

static void forget(struct seen *s)
{
    for (int i = 0; i < s->n; i++) dan_free(s->x[i]);
}

static struct seen look(const struct dan_lm *lm, const struct dan_observe_opts *o, const char *only, struct dan_observed *out)
{
    struct seen s = {.only = only};
    struct dan_observe_opts opts = *o;
    struct dan_err e = {0};
    opts.see = see;
    opts.ctx = &s;
    if (only) opts.wants = wants;
    if (dan_observe(lm, &text, &opts, out, &e)) fail_msg("%s", e.msg);
    return s;
}

static int find(const struct seen *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->name[i], name)) return i;
    fail_msg("nothing seen of '%s'", name);
    return -1;
}

/* Every batch size, number of threads and budget of memory shows the same bits. */
static void test_same_rows(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gpt", "gemma3", "phi3", "qwen3"};
    struct dan_pool *pool;
    assert_int_equal(dan_pool_new(3, &pool, NULL), 0);
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        struct dan_lm lm = new_lm(families[f], 2, f % 2);
        struct dan_observed all, o;
        struct seen a = look(&lm, &(struct dan_observe_opts){.rows = N}, NULL, &all);
        const struct dan_observe_opts other[] = {{.rows = 1}, {.rows = 40, .pool = pool}, {.rows = 50, .bytes = 1}, {.rows = N, .bytes = 30000}};
        for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
            struct seen b = look(&lm, &other[i], NULL, &o);
            assert_int_equal(a.n, b.n);
            assert_true(fabs(all.nats - o.nats) < 1e-4);
            assert_int_equal(o.rows, N);
            assert_int_equal(o.targets, N - SEQS);
            for (int p = 0; p < a.n; p++) {
                int q = find(&b, a.name[p]);
                assert_int_equal(b.rows[q], N);
                assert_memory_equal(a.x[p], b.x[q], (size_t)(N * a.k[p]) * sizeof(float));
            }
            forget(&b);
        }
        forget(&a);
        dan_lm_release(&lm);
    }
    dan_pool_free(pool);
}

/* The loss is that of dan_eval over the same windows. */
static void test_loss(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", 2, false);
    struct dan_shards *s;
    struct dan_observed o;
    struct dan_eval_result r;
    assert_int_equal(dan_shards_of(ids, N, start, SEQS, -1, &s, NULL), 0);
    assert_int_equal(dan_observe(&lm, &text, NULL, &o, NULL), 0);
    assert_int_equal(dan_eval(&lm, s, &(struct dan_eval_opts){.context = CONTEXT, .stride = CONTEXT}, &r, NULL), 0);
    assert_int_equal(r.tokens, o.targets);
    assert_true(fabs(r.nats - o.nats) < 1e-4 * r.nats);
    dan_shards_free(s);
    dan_lm_release(&lm);
}

/* x of the first layer by hand: the norm of the embedding.  The head's logits are those of a session. */
static void test_values(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", 1, false);
    struct seen s = look(&lm, &(struct dan_observe_opts){0}, NULL, NULL);
    int q = find(&s, "blk.0.attn_q.weight"), head = find(&s, "output.weight");
    const float *table = dan_store_find(lm.store, "token_embd.weight")->data, *gain = dan_store_find(lm.store, "blk.0.attn_norm.weight")->data;
    for (int i = 0; i < N; i++) {
        const float *x = table + ids[i] * 32;
        double square = 0;
        for (int c = 0; c < 32; c++) square += (double)x[c] * (double)x[c];
        double by = 1 / sqrt(square / 32 + 1e-5);
        for (int c = 0; c < 32; c++) assert_true(fabs((double)x[c] * by * (double)gain[c] - (double)s.x[q][i * 32 + c]) < 1e-5);
    }
    struct dan_session *session;
    float logits[24 * V], *w = dan_store_find(lm.store, "output.weight")->data;
    assert_int_equal(dan_session_new(&lm, &(struct dan_session_opts){.max_select = 24}, &session, NULL), 0);
    assert_int_equal(dan_session_feed(session, &(struct dan_feed){0, ids, 24, 24, logits}, 1, NULL), 0);
    for (int i = 0; i < 24 * V; i++) {
        double sum = 0;
        for (int c = 0; c < 32; c++) sum += (double)s.x[head][i / V * 32 + c] * (double)w[i % V * 32 + c];
        assert_true(fabs(sum - (double)logits[i]) < 1e-4);
    }
    dan_session_free(session);
    forget(&s);
    dan_lm_release(&lm);
}

static void test_products(void **state)
{
    (void)state;
    static const struct { const char *family; bool tied; size_t n; int32_t inputs; } want[] = {
        {"llama", false, 15, 9}, {"llama", true, 15, 9}, {"gpt", true, 9, 9}, {"phi3", false, 9, 9}, {"gemma2", true, 15, 9}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct dan_lm lm = new_lm(want[i].family, 2, want[i].tied);
        struct dan_products p;
        struct dan_err e = {0};
        if (dan_products_new(&lm, &p, &e)) fail_msg("%s", e.msg);
        assert_int_equal(p.n, want[i].n);
        assert_int_equal(p.n_inputs, want[i].inputs);
        const struct dan_product *last = &p.v[p.n - 1];
        assert_string_equal(last->name, want[i].tied ? "token_embd.weight" : "output.weight");
        assert_true(last->head && last->first && last->layer == -1 && !p.v[0].head && p.v[0].layer == 0 && p.v[0].first);
        dan_products_release(&p);
        dan_lm_release(&lm);
    }
    struct dan_lm lm = new_lm("llama", 2, false);
    struct seen s = look(&lm, &(struct dan_observe_opts){.rows = 30}, "blk.1.", NULL);
    assert_int_equal(s.n, 7);
    assert_int_equal(s.input[find(&s, "blk.1.attn_q.weight")], s.input[find(&s, "blk.1.attn_v.weight")]);
    assert_int_not_equal(s.input[find(&s, "blk.1.attn_q.weight")], s.input[find(&s, "blk.1.ffn_up.weight")]);
    forget(&s);
    dan_lm_release(&lm);
}

/* Neither the store nor later programs notice. */
static void test_leaves_store_alone(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", 1, false);
    struct dan_session *s;
    struct dan_err e = {0};
    assert_int_equal(dan_observe(&lm, &text, NULL, NULL, NULL), 0);
    if (dan_session_new(&lm, &(struct dan_session_opts){0}, &s, &e)) fail_msg("%s", e.msg);    /* joins q, k, v */
    assert_int_equal(dan_observe(&lm, &text, NULL, NULL, NULL), 0);
    dan_session_free(s);
    dan_lm_release(&lm);
}

static int refuse(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    (void)ctx, (void)x, (void)n;
    return dan_fail(e, DAN_EINVAL, "no '%s'", p->name);
}

static bool stop(void *ctx, int64_t done, int64_t total) { return (void)ctx, done > total; }

static void test_refusals(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", 1, false), rnn = new_lm("gru", 1, false);
    struct dan_err e = {0};
    const int64_t one[] = {0, CONTEXT + 1}, none[] = {0, 0};
    assert_int_equal(dan_observe(&lm, &(struct dan_sequences){ids, one, 1}, NULL, NULL, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "takes 1 to 24"));
    assert_int_equal(dan_observe(&lm, &(struct dan_sequences){ids, none, 1}, NULL, NULL, NULL), DAN_EINVAL);
    assert_int_equal(dan_observe(&lm, &(struct dan_sequences){ids, none, 0}, NULL, NULL, NULL), DAN_EINVAL);
    assert_int_equal(dan_observe(&rnn, &text, NULL, NULL, NULL), DAN_EUNSUPPORTED);
    e = (struct dan_err){0};
    assert_int_equal(dan_observe(&lm, &text, &(struct dan_observe_opts){.see = refuse}, NULL, &e), DAN_EINVAL);
    assert_string_equal(e.msg, "no 'blk.0.attn_q.weight'");
    assert_int_equal(dan_observe(&lm, &text, &(struct dan_observe_opts){.progress = stop}, NULL, NULL), DAN_ECANCELLED);
    ids[3] = V;
    assert_int_equal(dan_observe(&lm, &text, NULL, NULL, NULL), DAN_EINVAL);
    dan_lm_release(&lm);
    dan_lm_release(&rnn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_rows), cmocka_unit_test(test_loss), cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_products), cmocka_unit_test(test_leaves_store_alone), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
