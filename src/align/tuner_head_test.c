/* Score heads, runs in two parts, several tuners over one set of weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "align/reward_model.h"
#include "align/test_loss.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/lora.h"
#include "model/quantize.h"
#include "model/score.h"

enum { VOCAB = 41, C = 32 };
static const int32_t seq[3][12] = {{1, 5, 9, 2, 30, 7, 8, 1, 3, 36, 4, 2}, {4, 4, 17, 20, 6, 2}, {9, 8, 7, 6, 5, 4, 3, 2, 1}};
static const int64_t seq_n[3] = {12, 6, 9};
/* Every dense decoder family. */
static const char *const families[] = {"llama", "gpt", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"};
enum { FAMILIES = sizeof families / sizeof *families };

static struct dan_lm new_lm(const char *family, bool tied)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = C, .layers = 2, .heads = 2, .tied = tied, .bias = !strcmp(family, "gpt"), .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 3, &e)) fail_msg("%s: %s", family, e.msg);
    return lm;
}

static void add_head(struct dan_lm *lm, const char *adapter)
{
    struct dan_err e = {0};
    if (dan_lm_add_score(lm, &(struct dan_score_opts){.adapter = adapter, .std = 0.3, .seed = 4}, &e)) fail_msg("%s", e.msg);
}

static void add_adapter(struct dan_lm *lm, const char *name)
{
    struct dan_lora_opts o = {.name = name, .rank = 2, .alpha = 4, .targets = "all-linear", .last_layer = -1, .seed = 5};
    struct dan_err e = {0};
    struct dan_rng r = {.seed = 8};
    if (dan_lora_add(lm, &o, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        struct dan_tensor *t = dan_store_at(lm->store, i);
        if (!dan_lora_owns(dan_store_name(lm->store, i), name) || !dan_str_ends(dan_store_name(lm->store, i), ".lora_b")) continue;
        for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) ((float *)t->data)[k] = (float)(0.05 * dan_rng_normal(&r));
    }
}

static struct dan_tuner *new_tuner(struct dan_lm *lm, struct dan_tuner_opts o)
{
    struct dan_tuner *t;
    struct dan_err e = {0};
    o.max_rows = ROWS;
    o.optim = dan_optim_find("adamw");
    o.beta1 = 0.9, o.beta2 = 0.999, o.eps = 1e-8, o.clip = 1;
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static struct dan_packed packed(bool values)
{
    struct dan_packed p;
    struct dan_err e = {0};
    struct dan_rng r = {.seed = 77};
    float w[12];
    assert_int_equal(dan_packed_init(&p, ROWS, &e), DAN_OK);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 12; k++) w[k] = k > 1 ? (float)dan_rng_normal(&r) : 0;
        if (values) dan_packed_add_all(&p, seq[i], seq_n[i], w);
        else dan_packed_add(&p, seq[i], seq_n[i], w);
    }
    return p;
}

static int64_t score(struct dan_tuner *t, bool values, bool exact, float *out)
{
    struct dan_packed p = packed(values);
    struct dan_err e = {0};
    if (dan_tuner_score(t, &p, exact, out, &e)) fail_msg("%s", e.msg);
    int64_t rows = p.batch.rows;
    dan_packed_release(&p);
    return rows;
}

/* Every parameter's gradient at two places against differences; joined ones ("a+b") by their first. */
static int check_slopes(struct dan_lm *lm, struct dan_tuner *t, const struct dan_packed *p, const char *family)
{
    struct dan_store *s = dan_tuner_state(t);
    int checked = 0;
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const char *name = dan_store_name(s, i);
        if (!dan_str_starts(name, "sum:")) continue;
        const float *g = dan_store_at(s, i)->data;
        struct dan_tensor *w = dan_store_find(lm->store, name + 4);
        if (!w) fail_msg("%s: no '%s'", family, name + 4);
        for (int64_t k = 1; k < dan_shape_count(&w->shape) && k < 40; k += 29, checked++) {
            float *at = (float *)w->data + k, kept = *at;
            const float h = 4e-3f;
            *at = kept + h;
            double up = total(t, p);
            *at = kept - h;
            double slope = (up - total(t, p)) / (2 * (double)h);
            *at = kept;
            if (fabs(slope - (double)g[k]) > 4e-3 + 2e-2 * fabs(slope)) fail_msg("%s: %s[%lld] is %g, the slope %g", family, name, (long long)k, (double)g[k], slope);
        }
    }
    return checked;
}

static void test_values(void **state)
{
    (void)state;
    for (int f = 0; f < FAMILIES; f++) {
        struct dan_lm lm = new_lm(families[f], false);
        struct dan_err e = {0};
        float by[2][ROWS], w[C];
        assert_false(dan_lm_has_score(&lm));
        add_head(&lm, NULL);
        assert_true(dan_lm_has_score(&lm));
        struct dan_tuner *t = new_tuner(&lm, (struct dan_tuner_opts){.head = DAN_HEAD_SCORE});
        struct dan_packed p = packed(true);
        int64_t rows = score(t, true, true, by[0]);
        score(t, true, false, by[1]);
        for (int64_t i = 0; i < rows; i++) assert_true(fabsf(by[0][i] - by[1][i]) < 1e-4f);
        assert_int_equal(dan_tuner_add(t, &p, by[1], &e), DAN_OK);
        assert_memory_equal(by[0], by[1], (size_t)rows * sizeof(float));
        assert_true(check_slopes(&lm, t, &p, families[f]) > 20);
        for (size_t i = 0; i < dan_store_count(dan_tuner_state(t)); i++) assert_null(strstr(dan_store_name(dan_tuner_state(t), i), ":output.weight"));
        memcpy(w, dan_lm_score_of(&lm, NULL)->data, sizeof w);
        double norm, before = total(t, &p);
        assert_int_equal(dan_tuner_step(t, 1e-3, &norm, &e), DAN_OK);
        assert_true(norm > 0 && total(t, &p) < before);
        assert_memory_not_equal(w, dan_lm_score_of(&lm, NULL)->data, sizeof w);
        dan_packed_release(&p);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
}

/* The head is linear: of zeros it gives zeros; its gradient is the weighted sum of what it reads, so doubling it doubles every value. */
static void test_fresh_head(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", true);
    struct dan_err e = {0};
    float v[ROWS], twice[ROWS];
    if (dan_lm_add_score(&lm, &(struct dan_score_opts){0}, &e)) fail_msg("%s", e.msg);
    struct dan_tuner *t = new_tuner(&lm, (struct dan_tuner_opts){.head = DAN_HEAD_SCORE, .frozen = true});
    int64_t rows = score(t, true, false, v);
    for (int64_t i = 0; i < rows; i++) assert_true(v[i] == 0);
    float *w = dan_lm_score_of(&lm, NULL)->data;
    for (int i = 0; i < C; i++) w[i] = 0.25f * (float)(i % 5 - 2);
    score(t, true, false, v);
    for (int i = 0; i < C; i++) w[i] *= 2;
    score(t, true, false, twice);
    for (int64_t i = 0; i < rows; i++) assert_true(v[i] != 0 && twice[i] == 2 * v[i]);
    struct dan_packed p = packed(true);
    assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "frozen"));
    dan_packed_release(&p);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

/* Many texts in several runs give what each gives alone, to the bit. */
static void test_scores(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("qwen3", false);
    struct dan_packed pack;
    struct dan_err e = {0};
    struct dan_sft_row text[20];
    const struct dan_sft_row *row[20];
    double value[20], alone, zero = 0;
    add_head(&lm, NULL);
    struct dan_tuner *t = new_tuner(&lm, (struct dan_tuner_opts){.head = DAN_HEAD_SCORE, .frozen = true});
    assert_int_equal(dan_packed_init(&pack, ROWS, &e), DAN_OK);
    for (int i = 0; i < 20; i++) {
        text[i] = (struct dan_sft_row){.ids = (int32_t *)(uintptr_t)seq[i % 3], .n = i < 3 ? seq_n[i] : 1 + i * 5 % seq_n[i % 3]};
        row[i] = &text[i];
    }
    assert_int_equal(dan_rows_value(t, row, 20, &pack, value, &e), DAN_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(dan_rows_value(t, row + i, 1, &pack, &alone, &e), DAN_OK);
        assert_memory_equal(&alone, &value[i], sizeof alone);
    }
    assert_int_equal(dan_rows_value(t, row, 0, &pack, &zero, &e), DAN_OK);
    assert_true(zero == 0);
    dan_packed_release(&pack);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

/* With an adapter: it and the head learn, nothing else; the head is the adapter's own where it has one. */
static void test_adapter(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        struct dan_lm lm = new_lm(own ? "gpt" : "llama", false);
        struct dan_err e = {0};
        add_adapter(&lm, "critic");
        add_head(&lm, own ? "critic" : NULL);
        lm.adapter[0].trained = true;
        struct dan_tuner *t = new_tuner(&lm, (struct dan_tuner_opts){.head = DAN_HEAD_SCORE});
        struct dan_packed p = packed(true);
        assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
        assert_true(check_slopes(&lm, t, &p, "adapter") > 20);
        int heads = 0;
        for (size_t i = 0; i < dan_store_count(dan_tuner_state(t)); i++) {
            const char *name = dan_store_name(dan_tuner_state(t), i);
            if (!dan_str_starts(name, "sum:")) continue;
            bool head = !strcmp(name, own ? "sum:score.weight@critic.saved" : "sum:score.weight");
            if (!head && !strchr(name, '@')) fail_msg("'%s' learns", name);
            heads += head;
        }
        assert_int_equal(heads, 1);
        dan_packed_release(&p);
        dan_tuner_free(t);
        dan_lm_release(&lm);
    }
}

/* ---- runs in two parts ---- */

struct seeding { int64_t rows; float nll[ROWS]; const float *weights; int rc, calls; };

static int seed_rows(void *ctx, const float *out, struct dan_packed *p, struct dan_err *e)
{
    struct seeding *s = ctx;
    s->calls++;
    s->rows = p->batch.rows;
    memcpy(s->nll, out, (size_t)s->rows * sizeof *out);
    memcpy(p->batch.weights, s->weights, (size_t)s->rows * sizeof *out);
    return s->rc ? dan_fail(e, s->rc, "as asked") : DAN_OK;
}

static void same_sums(struct dan_tuner *a, struct dan_tuner *b)
{
    struct dan_store *x = dan_tuner_state(a), *y = dan_tuner_state(b);
    for (size_t i = 0; i < dan_store_count(x); i++)
        assert_memory_equal(dan_store_at(x, i)->data, dan_store_at(y, i)->data, (size_t)dan_shape_count(&dan_store_at(x, i)->shape) * sizeof(float));
}

/* One run in two parts has the bits of a run to score and one to add: whatever the head, the fusion, and with remat. */
static void test_two_parts(void **state)
{
    (void)state;
    static const struct { bool score, lora, remat, ref; int64_t fused_from; const char *fusion; double temperature, noise; } cases[] = {
        {0}, {.fused_from = 8}, {.fused_from = 8, .lora = true}, {.score = true}, {.score = true, .lora = true}, {.fused_from = 8, .remat = true},
        {.fusion = "off"}, {.fused_from = 8, .ref = true}, {.lora = true, .temperature = 0.7}, {.lora = true, .noise = 0.1, .fused_from = 8},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct dan_lm lm = new_lm("llama", c % 2);
        struct dan_err e = {0};
        if (cases[c].lora) add_adapter(&lm, "a"), lm.adapter[0].trained = true;
        if (cases[c].score) add_head(&lm, NULL);
        struct dan_tuner_opts o = {.head = cases[c].score ? DAN_HEAD_SCORE : DAN_HEAD_LM, .remat = cases[c].remat, .ref = cases[c].ref, .temperature = cases[c].temperature,
                                   .lora_dropout = cases[c].noise, .seed = 3, .pass = {.fusion = cases[c].fusion, .head_ce_min_vocab = cases[c].fused_from}};
        struct dan_tuner *one = new_tuner(&lm, o), *two = new_tuner(&lm, o);
        struct dan_packed p = packed(cases[c].score), q = packed(cases[c].score);
        struct seeding s = {.weights = p.batch.weights};
        float out[ROWS];
        int64_t rows = p.batch.rows;
        assert_int_equal(dan_tuner_add(one, &p, out, &e), DAN_OK);
        memset(q.batch.weights, 0, (size_t)rows * sizeof(float));
        s.rc = DAN_EINVAL;
        assert_int_equal(dan_tuner_run(two, &q, seed_rows, &s, &e), DAN_EINVAL);
        s.rc = DAN_OK;
        memset(q.batch.weights, 0, (size_t)rows * sizeof(float));
        assert_int_equal(dan_tuner_run(two, &q, seed_rows, &s, &e), DAN_OK);
        assert_int_equal(s.calls, 2);
        assert_memory_equal(out, s.nll, (size_t)rows * sizeof(float));
        same_sums(one, two);
        assert_int_equal(score(two, cases[c].score, true, s.nll), rows);
        if (cases[c].noise == 0) assert_memory_equal(out, s.nll, (size_t)rows * sizeof(float));
        dan_packed_release(&p);
        dan_packed_release(&q);
        dan_tuner_free(one);
        dan_tuner_free(two);
        dan_lm_release(&lm);
    }
}

/* ---- heads that rest ---- */

static bool has_op(const struct dan_lm *lm, const char *op, int64_t outputs)
{
    struct dan_io io = {.max_rows = ROWS, .loss = true};
    struct dan_pass_opts o = {.head_ce_min_vocab = 8};
    struct dan_graph *g;
    struct dan_err e = {0};
    bool found = false;
    if (dan_lm_graph(lm, &io, DAN_PIPELINE_TRAIN, &o, &g, &e)) fail_msg("%s", e.msg);
    for (int32_t i = 1; i < g->n; i++) found |= dan_op_is(&g->node[i], op) && g->node[i].n_out == outputs;
    dan_graph_free(g);
    return found;
}

static void near_sums(struct dan_tuner *a, struct dan_tuner *b, double tolerance)
{
    struct dan_store *x = dan_tuner_state(a), *y = dan_tuner_state(b);
    for (size_t i = 0; i < dan_store_count(x); i++) {
        const float *p = dan_store_at(x, i)->data, *q = dan_store_at(y, i)->data;
        double worst = 0, top = 0;
        for (int64_t k = 0; k < dan_shape_count(&dan_store_at(x, i)->shape); k++) {
            worst = fmax(worst, fabs((double)p[k] - (double)q[k]));
            top = fmax(top, fabs((double)p[k]));
        }
        if (worst > tolerance * top) fail_msg("%s: %g of %g", dan_store_name(x, i), worst, top);
    }
}

/* Beside an adapter the head computes neither all logits nor its own gradient, in whatever format it lies; the numbers are those of the plain product. */
static void test_frozen_head(void **state)
{
    (void)state;
    const struct { const struct dan_dtype *type; double tolerance; } cases[] = {{&dan_dtype_f32, 1e-5}, {&dan_dtype_bf16, 5e-2}, {&dan_dtype_q8_0, 5e-2}, {NULL, 5e-2}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct dan_lm lm = new_lm("llama", false);
        struct dan_err e = {0};
        float out[2][ROWS];
        const struct dan_dtype *type = cases[c].type ? cases[c].type : dan_dtype_find("nf4");
        if (c && dan_lm_quantize(&lm, type, NULL, NULL, &e)) fail_msg("%s", e.msg);
        add_adapter(&lm, "a");
        lm.adapter[0].trained = true;
        assert_true((dan_store_find(lm.store, "output.weight")->dtype == &dan_dtype_f32) == !c);
        assert_true(has_op(&lm, "head_ce_grad", 2));
        assert_false(has_op(&lm, "softmax_ce", 1));
        struct dan_tuner *t[2] = {new_tuner(&lm, (struct dan_tuner_opts){.pass = {.head_ce_min_vocab = 8}}), new_tuner(&lm, (struct dan_tuner_opts){0})};
        struct dan_packed p = packed(false);
        for (int k = 0; k < 2; k++) assert_int_equal(dan_tuner_add(t[k], &p, out[k], &e), DAN_OK);
        for (int64_t i = 0; i < p.batch.rows; i++) assert_true(fabs((double)out[0][i] - (double)out[1][i]) < cases[c].tolerance);
        near_sums(t[0], t[1], cases[c].tolerance);
        dan_packed_release(&p);
        for (int k = 0; k < 2; k++) dan_tuner_free(t[k]);
        dan_lm_release(&lm);
    }
}

/* Rows whose number nobody wants: no bit of the others changes, and what weighs 0 adds nothing. */
static void test_unwanted_rows(void **state)
{
    (void)state;
    for (int lora = 0; lora < 2; lora++) {
        struct dan_lm lm = new_lm("llama", lora);
        struct dan_err e = {0};
        float out[2][ROWS], w[12];
        uint8_t learn[12];
        if (lora) add_adapter(&lm, "a"), lm.adapter[0].trained = true;
        for (int k = 0; k < 12; k++) learn[k] = k % 4 > 1, w[k] = learn[k] ? 0.5f : 0;
        struct dan_tuner *t[2];
        struct dan_packed p[2];
        for (int k = 0; k < 2; k++) {
            t[k] = new_tuner(&lm, (struct dan_tuner_opts){.pass = {.head_ce_min_vocab = 8}});
            assert_int_equal(dan_packed_init(&p[k], ROWS, &e), DAN_OK);
            for (int i = 0; i < 3; i++) {
                if (k) dan_packed_add_learnt(&p[k], seq[i], seq_n[i], learn, w);
                else dan_packed_add(&p[k], seq[i], seq_n[i], w);
            }
            assert_int_equal(dan_tuner_add(t[k], &p[k], out[k], &e), DAN_OK);
        }
        for (int64_t r = 0; r < p[0].batch.rows; r++) {
            if (p[0].batch.weights[r] != 0) assert_memory_equal(&out[0][r], &out[1][r], sizeof(float));
            else assert_true(out[1][r] == 0 && out[0][r] > 0);
        }
        near_sums(t[0], t[1], 1e-5);
        for (int k = 0; k < 2; k++) {
            dan_packed_release(&p[k]);
            dan_tuner_free(t[k]);
        }
        dan_lm_release(&lm);
    }
}

/* ---- one base, several models ---- */

static void use(struct dan_lm *lm, const char *on, const char *trained)
{
    for (int k = 0; k < lm->n_adapters; k++) {
        lm->adapter[k].on = on && !strcmp(lm->adapter[k].name, on);
        lm->adapter[k].trained = trained && !strcmp(lm->adapter[k].name, trained);
    }
}

/* 0 policy, 1 critic, 2 reference, 3 reward. */
static struct dan_tuner *one_of(struct dan_lm *lm, int which)
{
    static const char *const on[] = {"policy", "critic", NULL, "reward"};
    use(lm, on[which], which < 2 ? on[which] : NULL);
    return new_tuner(lm, (struct dan_tuner_opts){.head = which & 1 ? DAN_HEAD_SCORE : DAN_HEAD_LM, .frozen = which >= 2});
}

static void train(struct dan_tuner **t)
{
    struct dan_err e = {0};
    for (int k = 0; k < 4; k++) {
        struct dan_packed p = packed(k & 1);
        double norm;
        assert_int_equal(dan_tuner_add(t[k & 1], &p, NULL, &e), DAN_OK);
        assert_int_equal(dan_tuner_step(t[k & 1], 1e-2, &norm, &e), DAN_OK);
        dan_packed_release(&p);
    }
}

/* Policy, critic, reward and reference over the same weights, made in any order: training one leaves the others' numbers to the bit; the base moves once. */
static void test_shared_base(void **state)
{
    (void)state;
    static const int order[5][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1, 3, 0, 2}, {0, 1, 2, 3}};
    for (int f = 0; f < 5; f++) {
        bool gpt = f == 4;
        struct dan_lm lm = new_lm(gpt ? "gpt" : "llama", f & 1);
        struct dan_err e = {0};
        struct dan_tuner *t[4];
        const void *base = NULL;
        float before[4][ROWS], after[4][ROWS];
        for (int k = 0; k < 3; k++) add_adapter(&lm, ((const char *[]){"policy", "critic", "reward"})[k]);
        add_head(&lm, "reward");
        assert_int_equal(dan_lm_add_score(&lm, &(struct dan_score_opts){.adapter = "critic", .like = "reward"}, &e), DAN_OK);
        assert_memory_equal(dan_lm_score_of(&lm, "critic")->data, dan_lm_score_of(&lm, "reward")->data, C * sizeof(float));
        for (int k = 0; k < 4; k++) {
            t[order[f][k]] = one_of(&lm, order[f][k]);
            const void *now = dan_store_find(lm.store, gpt ? "blk.1.attn_qkv.weight" : "blk.1.attn_q.weight")->data;
            if (k) assert_ptr_equal(base, now);
            base = now;
        }
        for (int k = 0; k < 4; k++) score(t[k], k & 1, false, before[k]);
        train(t);
        for (int k = 0; k < 4; k++) score(t[k], k & 1, false, after[k]);
        for (int k = 0; k < 4; k++) {
            if (k < 2) assert_memory_not_equal(before[k], after[k], 20 * sizeof(float));
            else assert_memory_equal(before[k], after[k], 20 * sizeof(float));
            dan_tuner_free(t[k]);
        }
        dan_lm_release(&lm);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", false);
    struct dan_err e = {0};
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .head = DAN_HEAD_SCORE};
    struct dan_tuner *t = NULL;
    assert_int_equal(dan_tuner_new(&lm, &o, NULL, &t, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "no score head"));
    add_head(&lm, NULL);
    assert_int_equal(dan_lm_add_score(&lm, &(struct dan_score_opts){0}, &e), DAN_EINVAL);
    assert_int_equal(dan_lm_add_score(&lm, &(struct dan_score_opts){.adapter = "x"}, &e), DAN_EINVAL);
    dan_lm_drop_lm_head(&lm);
    o.head = DAN_HEAD_LM;
    e = (struct dan_err){0};
    assert_int_equal(dan_tuner_new(&lm, &o, NULL, &t, &e), DAN_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "no language head"));
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_fresh_head), cmocka_unit_test(test_scores), cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_two_parts), cmocka_unit_test(test_frozen_head), cmocka_unit_test(test_unwanted_rows), cmocka_unit_test(test_shared_base), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
