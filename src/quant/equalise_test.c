/* Folding keeps the function; the limits of SmoothQuant and AWQ; an outlier channel that SmoothQuant repairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "infer/session.h"
#include "quant/equal_impl.h"

enum { V = 64, T = 32, SEQS = 12 };
static int32_t ids[SEQS * T];
static int64_t start[SEQS + 1];
static const struct dan_sequences text = {ids, start, SEQS};

static void perturb(struct dan_lm *lm)
{
    struct dan_rng r = {.seed = 77};
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        struct dan_tensor *t = dan_store_at(lm->store, i);
        for (int64_t k = 0; t->shape.n == 1 && k < t->shape.d[0]; k++) ((float *)t->data)[k] += 0.3f * (float)dan_rng_normal(&r);
    }
}

static struct dan_lm new_lm(const char *family, bool tied)
{
    struct dan_lm_config cfg = {.vocab = V, .context = T, .hidden = 64, .layers = 2, .heads = 4, .ffn = 96, .tied = tied, .bias = true,
                                .qkv_bias = true, .mlp_bias = true, .init_std = 0.15, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    struct dan_rng r = {.seed = 3};
    if (strcmp(family, "gpt")) cfg.kv_heads = 2;
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 9, &e)) fail_msg("%s", e.msg);
    perturb(&lm);
    for (int i = 0; i < SEQS * T; i++) ids[i] = (int32_t)dan_rng_below(&r, V);
    for (int i = 0; i <= SEQS; i++) start[i] = i * T;
    return lm;
}

static void logits_of(struct dan_lm *lm, float *out)
{
    struct dan_session *s;
    struct dan_err e = {0};
    if (dan_session_new(lm, &(struct dan_session_opts){.max_select = T, .fusion = "off"}, &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(dan_session_feed(s, &(struct dan_feed){0, ids, T, T, out}, 1, NULL), 0);
    dan_session_free(s);
}

/* Largest difference over the largest logit. */
static double drift(const float *a, const float *b)
{
    double d = 0, m = 0;
    for (int i = 0; i < T * V; i++) d = fmax(d, fabs((double)a[i] - (double)b[i])), m = fmax(m, fabs((double)a[i]));
    return d / m;
}

static const char *const families[] = {"llama", "gpt", "gemma", "gemma3", "phi3", "qwen3", "mistral"};
enum { FAMILIES = sizeof families / sizeof *families };

static void test_folds(void **state)
{
    (void)state;
    static const struct { const char *family; bool tied; int norm, value, gated; const char *why; } want[] = {
        {"llama", false, 5, 2, 2, NULL},       /* twice qkv, gate/up; head */
        {"llama", true, 4, 2, 2, "tied"},
        {"gpt", true, 4, 2, 0, "activation"},
        {"gemma3", true, 4, 2, 2, "tied"},
        {"phi3", false, 5, 2, 2, NULL}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct dan_lm lm = new_lm(want[i].family, want[i].tied);
        struct dan_folds f;
        struct dan_err e = {0};
        int n[3] = {0}, why = 0;
        if (dan_folds_new(&lm, &f, &e)) fail_msg("%s", e.msg);
        for (size_t k = 0; k < f.n; k++) {
            if (!f.v[k].why_not[0]) n[f.v[k].kind]++;
            else why += want[i].why && strstr(f.v[k].why_not, want[i].why);
        }
        if (n[0] != want[i].norm || n[1] != want[i].value || n[2] != want[i].gated) fail_msg("%s: %d %d %d", want[i].family, n[0], n[1], n[2]);
        assert_true(!want[i].why || why);
        dan_folds_release(&f);
        dan_lm_release(&lm);
    }
}

/* Every fold by itself and all together, with scales from 0.1 to 10. */
static void test_function_stays(void **state)
{
    (void)state;
    static float before[T * V], after[T * V], s[512];
    for (int i = 0; i < FAMILIES; i++) {
        struct dan_lm lm = new_lm(families[i], i % 2 == 1);
        struct dan_folds f;
        struct dan_rng r = {.seed = 4};
        struct dan_err e = {0};
        int applied = 0;
        logits_of(&lm, before);
        assert_int_equal(dan_folds_new(&lm, &f, NULL), 0);
        for (size_t k = 0; k < f.n; k++) {
            if (f.v[k].why_not[0]) continue;
            for (int64_t j = 0; j < f.v[k].k; j++) s[j] = (float)pow(10, 2 * dan_rng_uniform(&r) - 1);
            dan_fold_tie(&f.v[k], s);
            if (dan_fold_apply(&lm, &f.v[k], s, &e)) fail_msg("%s", e.msg);
            applied++;
            logits_of(&lm, after);
            if (!(drift(before, after) < 1e-5)) fail_msg("%s, '%s': logits off by %g", families[i], f.v[k].to[0], drift(before, after));
        }
        assert_true(applied >= 6);
        dan_folds_release(&f);
        dan_lm_release(&lm);
    }
}

/* alpha 1: every channel's largest input is 1.  alpha 0: every channel's largest weight is 1.  Dead channels keep 1. */
static void test_alpha_limits(void **state)
{
    (void)state;
    for (int one = 0; one < 2; one++) {
        struct dan_lm lm = new_lm("llama", false);
        struct dan_folds f;
        struct dan_channel_list l;
        float w[512], row[512];
        ((float *)dan_store_find(lm.store, "blk.1.ffn_norm.weight")->data)[7] = 0;
        assert_int_equal(dan_smoothquant(&lm, &text, &(struct dan_smooth_opts){.alpha = one}, NULL), 0);
        assert_int_equal(dan_folds_new(&lm, &f, NULL), 0);
        assert_int_equal(dan_channels_collect(&lm, &text, &f, &(struct dan_collect_opts){0}, &l, NULL), 0);
        for (size_t i = 0; i < f.n; i++) {
            const struct dan_channels *c = &l.v[f.v[i].input];
            dan_fold_weight_max(&lm, &f.v[i], w, row);
            dan_fold_tie(&f.v[i], w);
            dan_fold_tie(&f.v[i], c->most);
            bool changed_later = f.v[i].kind == DAN_FOLD_NORM && !one && f.v[i].n_to > 1;     /* v and up are rows of a fold of their own */
            for (int64_t j = 0; j < c->k && !changed_later; j++) {
                bool dead = !strcmp(f.v[i].to[0], "blk.1.ffn_gate.weight") && j == 7;
                if (dead) assert_true(c->most[j] == 0);
                else assert_true(fabs((one ? (double)c->most[j] : (double)w[j]) - 1) < 2e-3);
            }
        }
        dan_channels_release(&l);
        dan_folds_release(&f);
        dan_lm_release(&lm);
    }
}

static struct dan_equalised list[32];
static int n_list;
static void note(void *ctx, const struct dan_equalised *g)
{
    (void)ctx;
    list[n_list++] = *g;
    list[n_list - 1].fold = NULL;
}

static void why(void *ctx, const struct dan_equalised *g)
{
    (void)ctx;
    assert_non_null(strstr(g->fold->why_not, "no multiple of the group of 40"));
    assert_true(g->least == 1 && g->most == 1);
    n_list++;
}

static void test_methods_keep_function(void **state)
{
    (void)state;
    static float before[T * V], after[T * V];
    struct dan_pool *pool;
    assert_int_equal(dan_pool_new(2, &pool, NULL), 0);
    for (int i = 0; i < FAMILIES; i++)
        for (int method = 0; method < 4; method++) {
            struct dan_lm lm = new_lm(families[i], i % 2 == 1);
            struct dan_err e = {0};
            logits_of(&lm, before);
            const struct dan_smooth_opts s = {.alpha = method ? -1 : 0.5, .pool = pool, .report = note, .dynamic = method == 2};
            const struct dan_awq_opts a = {.trial = dan_trial_of(dan_dtype_find("q4_0")), .pool = pool, .report = note, .head = true};
            n_list = 0;
            if (method < 3 ? dan_smoothquant(&lm, &text, &s, &e) : dan_awq(&lm, &text, &a, &e)) fail_msg("%s", e.msg);
            logits_of(&lm, after);
            if (!(drift(before, after) < 1e-5)) fail_msg("%s, method %d: logits off by %g", families[i], method, drift(before, after));
            for (int k = 0; k < n_list; k++) assert_true(list[k].after <= list[k].before && list[k].least > 0);
            dan_lm_release(&lm);
        }
    dan_pool_free(pool);
}

/* Exponent 0 and no cut: what AWQ leaves alone keeps its bytes.  More threads, same bytes. */
static void test_awq_bytes(void **state)
{
    (void)state;
    struct dan_pool *pool;
    struct dan_lm a = new_lm("llama", false), b = new_lm("llama", false), c = new_lm("llama", false);
    struct dan_awq_opts o = {.trial = dan_trial_of(dan_dtype_find("q4_0")), .clip = true, .report = note};
    assert_int_equal(dan_pool_new(3, &pool, NULL), 0);
    n_list = 0;
    assert_int_equal(dan_awq(&a, &text, &o, NULL), 0);
    o.pool = pool;
    assert_int_equal(dan_awq(&b, &text, &o, NULL), 0);
    for (size_t i = 0; i < dan_store_count(a.store); i++) {
        const struct dan_tensor *x = dan_store_at(a.store, i), *y = dan_store_find(b.store, dan_store_name(a.store, i));
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
    /* A trial that loses nothing: exponent 0, no cut, and with them every weight stays as it is, so that rounding is plain rounding. */
    o = (struct dan_awq_opts){.trial = dan_trial_of(&dan_dtype_f32), .clip = true, .report = note};
    struct dan_lm d = new_lm("llama", false);
    n_list = 0;
    o.trial.group = 32;
    assert_int_equal(dan_awq(&c, &text, &o, NULL), 0);
    for (size_t i = 0; i < dan_store_count(c.store); i++) {
        const struct dan_tensor *x = dan_store_at(c.store, i), *y = dan_store_find(d.store, dan_store_name(c.store, i));
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
    for (int k = 0; k < n_list; k++) assert_true(list[k].value == 0 && list[k].before == 0 && list[k].least == 1 && list[k].most == 1);
    dan_pool_free(pool);
    dan_lm_release(&a);
    dan_lm_release(&b);
    dan_lm_release(&c);
    dan_lm_release(&d);
}

/* The exponent that is reported loses least of all twenty, by an own sum over the rows; clipping loses no more. */
static double group_error(const struct dan_lm *lm, const struct dan_fold *f, const struct dan_channels *c, const struct dan_trial *t, double r)
{
    double sum = 0, power = 0, least = INFINITY, most = 0;
    float s[512], w[512], q[512], scratch[512];
    for (int64_t j = 0; j < c->k; j++) {
        s[j] = (float)fmax(1e-4, pow(c->sum[j] / (double)c->count, r));
        least = fmin(least, (double)s[j]), most = fmax(most, (double)s[j]);
    }
    for (int64_t j = 0; j < c->k; j++) s[j] = (float)((double)s[j] / sqrt(least * most));
    for (int p = 0; p < f->n_to; p++) {
        const struct dan_tensor *m = dan_store_find(lm->store, f->to[p]);
        for (int64_t n = 0; n < dan_rows(m); n++) {
            const float *from = dan_row(m, n);
            for (int64_t j = 0; j < c->k; j++) w[j] = from[j] * s[j];
            t->row(t->ctx, w, q, c->k, scratch);
            for (int64_t i = 0; i < c->n; i++) {
                double y = 0, d = 0;
                for (int64_t j = 0; j < c->k; j++) {
                    y += (double)c->x[i * c->k + j] * (double)from[j];
                    d += (double)c->x[i * c->k + j] / (double)s[j] * ((double)q[j] - (double)w[j]);
                }
                sum += d * d, power += y * y;
            }
        }
    }
    return sum / power;
}

static void test_awq_choice(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("qwen2", false);
    struct dan_folds f;
    struct dan_channel_list l;
    struct dan_trial t = dan_trial_of(dan_dtype_find("q4_0"));
    n_list = 0;
    assert_int_equal(dan_folds_new(&lm, &f, NULL), 0);
    assert_int_equal(dan_channels_collect(&lm, &text, &f, &(struct dan_collect_opts){.rows = 64}, &l, NULL), 0);
    const struct dan_fold *g = &f.v[0];
    double least = INFINITY, best = 0;
    for (int i = 0; i < 20; i++) {
        double err = group_error(&lm, g, &l.v[0], &t, i / 20.0);
        if (err < least) least = err, best = i / 20.0;
    }
    double none = group_error(&lm, g, &l.v[0], &t, 0);
    assert_int_equal(dan_awq(&lm, &text, &(struct dan_awq_opts){.trial = t, .rows = 64, .report = note}, NULL), 0);
    assert_true(fabs(list[0].before - none) < 1e-3 * none && fabs(list[0].after - least) < 1e-3 * least);
    assert_true(fabs(list[0].value - best) < 1e-9 || fabs(list[0].after - least) < 1e-4 * least);
    dan_channels_release(&l);
    dan_folds_release(&f);
    dan_lm_release(&lm);
}

/* What static int8 makes of a model: the squared error of all groups' outputs, with and without the outlier, with and without SmoothQuant. */
static double int8_error(struct dan_lm *lm)
{
    struct dan_folds f;
    struct dan_channel_list l;
    float ones[512];
    double sum = 0, err;
    int n = 0;
    for (int j = 0; j < 512; j++) ones[j] = 1;
    assert_int_equal(dan_folds_new(lm, &f, NULL), 0);
    assert_int_equal(dan_channels_collect(lm, &text, &f, &(struct dan_collect_opts){.rows = 64}, &l, NULL), 0);
    for (size_t i = 0; i < f.n; i++) {
        struct dan_search s = {.lm = lm, .fold = &f.v[i], .ch = &l.v[f.v[i].input], .trial = dan_trial_of(&dan_dtype_i8), .act = DAN_ACT_PER_TENSOR};
        if (f.v[i].kind != DAN_FOLD_NORM || f.v[i].why_not[0]) continue;
        assert_int_equal(dan_search_open(&s, NULL), 0);
        assert_int_equal(dan_search_error(&s, ones, &err, NULL), 0);
        dan_search_close(&s);
        sum += err;
        n++;
    }
    dan_channels_release(&l);
    dan_folds_release(&f);
    return sum / n;
}

static void test_outlier(void **state)
{
    (void)state;
    static float before[T * V], after[T * V];
    static const char *const models[] = {"llama", "gpt", "gemma"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct dan_lm lm = new_lm(models[i], false);
        size_t n;
        logits_of(&lm, before);
        double plain = int8_error(&lm);
        assert_int_equal(dan_quant_inject_outlier(&lm, 5, 64, &n, NULL), 0);
        assert_true(n >= 4);
        logits_of(&lm, after);
        assert_true(drift(before, after) < 1e-5);
        double broken = int8_error(&lm);
        assert_int_equal(dan_smoothquant(&lm, &text, &(struct dan_smooth_opts){.alpha = 0.5}, NULL), 0);
        double repaired = int8_error(&lm);
        if (!(broken > 50 * plain && repaired < 2 * plain)) fail_msg("%s: plain %g, outlier %g, smoothed %g", models[i], plain, broken, repaired);
        dan_lm_release(&lm);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", true), odd = new_lm("llama", false), gru = new_lm("gru", false);
    struct dan_folds f;
    struct dan_err e = {0};
    float s[512];
    assert_int_equal(dan_smoothquant(&lm, &text, &(struct dan_smooth_opts){.alpha = 1.5}, NULL), DAN_EINVAL);
    assert_int_equal(dan_smoothquant(&gru, &text, NULL, NULL), DAN_EUNSUPPORTED);
    assert_int_equal(dan_quant_inject_outlier(&lm, 64, 64, NULL, NULL), DAN_EINVAL);
    assert_int_equal(dan_quant_inject_outlier(&lm, 0, 0, NULL, NULL), DAN_EINVAL);
    assert_int_equal(dan_folds_new(&lm, &f, NULL), 0);
    for (int j = 0; j < 512; j++) s[j] = 1;
    assert_int_equal(dan_fold_apply(&lm, &f.v[f.n - 1], s, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'token_embd.weight' takes no scales"));
    s[3] = 0;
    assert_int_equal(dan_fold_apply(&lm, &f.v[0], s, NULL), DAN_EINVAL);
    s[3] = NAN;
    assert_int_equal(dan_fold_apply(&lm, &f.v[0], s, NULL), DAN_EINVAL);
    dan_folds_release(&f);
    struct dan_trial t = dan_trial_of(dan_dtype_find("q4_0"));
    t.group = 40;
    e = (struct dan_err){0};
    n_list = 0;
    assert_int_equal(dan_awq(&odd, &text, &(struct dan_awq_opts){.trial = t, .clip = true, .report = why}, NULL), 0);
    assert_int_equal(n_list, 9);                       /* rows of 64 and 96: none fits */
    assert_int_equal(dan_awq(&odd, &text, &(struct dan_awq_opts){.trial = t, .head = true, .clip = true}, NULL), 0);
    struct dan_lm small = new_lm("llama", false);
    float q[64 * 64];
    struct dan_tensor *w = dan_store_find(small.store, "blk.0.attn_q.weight");
    struct dan_tensor done = dan_tensor_of(dan_dtype_find("q8_0"), w->shape, q);
    *w = done;
    e = (struct dan_err){0};
    assert_int_equal(dan_awq(&small, &text, &(struct dan_awq_opts){.trial = dan_trial_of(&dan_dtype_i8)}, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'blk.0.attn_q.weight' is quantised already (q8_0)"));
    dan_lm_release(&small);
    struct dan_session *session;                       /* joins q, k, v */
    assert_int_equal(dan_session_new(&odd, NULL, &session, NULL), 0);
    dan_session_free(session);
    e = (struct dan_err){0};
    assert_int_equal(dan_smoothquant(&odd, &text, NULL, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "load the model again"));
    ((float *)dan_store_find(lm.store, "blk.0.attn_norm.weight")->data)[1] = NAN;
    assert_int_equal(dan_smoothquant(&lm, &text, NULL, NULL), DAN_EINVAL);
    dan_lm_release(&lm);
    dan_lm_release(&odd);
    dan_lm_release(&gru);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folds), cmocka_unit_test(test_function_stays), cmocka_unit_test(test_alpha_limits),
        cmocka_unit_test(test_methods_keep_function), cmocka_unit_test(test_awq_bytes), cmocka_unit_test(test_awq_choice),
        cmocka_unit_test(test_outlier), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
