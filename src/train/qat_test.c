/* Quantisation-aware training: the same bytes for any threads and after resuming, whatever the method; fusion changes rounding
 * only; scales are set, learned and left alone when they should be; evaluation is hard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "io/checkpoint.h"
#include "op/fake_quant.h"
#include "train/trainer.h"

enum { VOCAB = 23, TOKENS = 3000, DOC = 150 };
static struct dan_shards *data;
static char dir[] = "/tmp/danlu-qat-XXXXXX";

static int setup(void **state)
{
    static int32_t ids[TOKENS];
    static int64_t doc[TOKENS / DOC];
    struct dan_err e = {0};
    struct dan_rng r = {.seed = 5};
    (void)state;
    for (int i = 0; i < TOKENS; i++) ids[i] = i ? (int32_t)((ids[i - 1] * 7 + 3 + (int32_t)dan_rng_below(&r, 3)) % VOCAB) : 0;
    for (int i = 0; i < TOKENS / DOC; i++) doc[i] = i * DOC;
    return mkdtemp(dir) && dan_shards_of(ids, TOKENS, doc, TOKENS / DOC, -1, &data, &e) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    struct dan_err e = {0};
    (void)state;
    dan_shards_free(data);
    return dan_remove_tree(dir, &e);
}

static struct dan_train_opts options(const char *scheme, const char *method, int64_t group, bool is_static)
{
    struct dan_err e = {0};
    struct dan_train_opts o = {.steps = 8, .batch = 4, .accumulate = 1, .context = 24, .lr = 3e-3, .min_lr = 3e-4, .warmup = 2,
                               .schedule = dan_schedule_find("cosine"), .optim = dan_optim_find("adamw"), .weight_decay = 0.1,
                               .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1, .seed = 11};
    if (scheme && dan_qat_policy(scheme, method, group, is_static, &o.qat, &e)) fail_msg("%s", e.msg);
    o.qat.observe = 2;
    return o;
}

struct rig { struct dan_lm lm; struct dan_pool *pool; struct dan_trainer *t; };

static void open_rig(struct rig *g, const char *model, const struct dan_train_opts *o, int threads)
{
    struct dan_err e = {0};
    struct dan_lm_config c = {.vocab = VOCAB, .context = 24, .hidden = 32, .layers = 2, .heads = 4, .ffn = 64, .tied = true, .bias = true};
    if (dan_pool_new(threads, &g->pool, &e) || dan_lm_init(&g->lm, dan_model_find(model), &c, o->seed, &e) ||
        dan_trainer_new(&g->lm, data, data, o, g->pool, &g->t, &e)) fail_msg("%s: %s", model, e.msg);
}

static void close_rig(struct rig *g)
{
    dan_trainer_free(g->t);
    dan_lm_release(&g->lm);
    dan_pool_free(g->pool);
}

static double steps(struct rig *g, int n)
{
    struct dan_err e = {0};
    struct dan_step_stats s = {0};
    for (int i = 0; i < n; i++)
        if (dan_trainer_step(g->t, &s, &e)) fail_msg("%s", e.msg);
    return s.loss;
}

static uint64_t hash_of(const struct dan_lm *lm)
{
    uint64_t h = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        if (!strchr(dan_store_name(lm->store, i), '+')) h = h * 31 + dan_crc32(0, t->data, dan_tensor_bytes(t));
    }
    return h;
}

static uint64_t train(const char *model, const struct dan_train_opts *o, int threads)
{
    struct rig g;
    open_rig(&g, model, o, threads);
    steps(&g, (int)o->steps);
    uint64_t h = hash_of(&g.lm);
    close_rig(&g);
    return h;
}

static float *tensor(const struct rig *g, const char *name)
{
    const struct dan_tensor *t = dan_store_find(g->lm.store, name);
    if (!t) fail_msg("there is no '%s'", name);
    return t->data;
}

static const struct { const char *scheme, *method; int64_t group; bool is_static; } kinds[] = {
    {"w8a8", "ste", 0, false}, {"w8a8", "ste", 0, true},   {"w8a8", "lsq", 0, true}, {"w4a8", "lsq", 32, false}, {"w3", "clipped-ste", 32, false},
    {"w4", "pact", 32, false}, {"w4a4", "pact", 32, true}, {"w2", "dsq", 32, false}, {"w3", "dsq-soft", 32, false}, {"w4", "quantnoise", 32, false},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };
static struct dan_train_opts kind(int k) { return options(kinds[k].scheme, kinds[k].method, kinds[k].group, kinds[k].is_static); }

static void any_threads_and_any_method(void **state)
{
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        struct dan_train_opts o = kind(k);
        o.steps = 3;
        o.dropout = 0.1;
        const char *model = k % 2 ? "llama" : "gpt";
        uint64_t one = train(model, &o, 1);
        if (train(model, &o, 3) != one) fail_msg("%s %s: 3 threads give other bytes than 1", kinds[k].scheme, kinds[k].method);
    }
}

/* Killed before and after rounding begins, at 3. */
static void resume_same_bytes(void **state)
{
    (void)state;
    for (int k = 0; k < N_KINDS; k++)
        for (int at = 2; at <= 5; at += k % 2 ? 3 : 1) {
            struct dan_train_opts o = kind(k);
            struct dan_err e = {0};
            struct dan_str path = {0};
            struct rig g;
            o.qat.start = 3;
            o.ema = k % 3 ? 0 : 0.9;
            uint64_t whole = train("llama", &o, 1);
            open_rig(&g, "llama", &o, 1);
            steps(&g, at);
            if (dan_trainer_save(g.t, dir, NULL, 0, &e)) fail_msg("%s", e.msg);
            close_rig(&g);
            open_rig(&g, "llama", &o, 1);
            dan_checkpoint_path(dir, at, &path);
            if (dan_trainer_resume(g.t, dan_str_c(&path), NULL, &e)) fail_msg("%s", e.msg);
            steps(&g, (int)o.steps - at);
            if (hash_of(&g.lm) != whole) fail_msg("%s %s: resumed at %d it ends with other bytes", kinds[k].scheme, kinds[k].method, at);
            close_rig(&g);
            dan_remove_tree(dan_str_c(&path), &e);
            dan_str_release(&path);
        }
}

static double loss_with(const char *fusion, int k)
{
    struct dan_train_opts o = kind(k);
    struct rig g;
    o.optim = dan_optim_find("sgd");
    o.lr = 0.02;
    o.pass.fusion = fusion;
    o.pass.head_ce_min_vocab = 8;
    open_rig(&g, k % 2 ? "llama" : "gpt", &o, 2);
    double loss = steps(&g, 3);
    close_rig(&g);
    return loss;
}

/* Rounding turns last bits into whole levels now and then, so not as close as in float; noise counts its draws by param. */
static void fusion_changes_rounding_only(void **state)
{
    (void)state;
    for (int k = 0; k < N_KINDS - 1; k++) {
        double on = loss_with("on", k), off = loss_with("off", k);
        if (fabs(on - off) > 2e-3 * off) fail_msg("%s %s: loss %.9g fused, %.9g not", kinds[k].scheme, kinds[k].method, on, off);
    }
}

static void accumulated(void **state)
{
    (void)state;
    struct dan_train_opts o = options("w4", "lsq", 32, false);
    struct rig g;
    o.optim = dan_optim_find("sgd");
    o.lr = 0.02;
    open_rig(&g, "llama", &o, 2);
    double whole = steps(&g, 4);
    close_rig(&g);
    o.batch = 1;
    o.accumulate = 4;
    open_rig(&g, "llama", &o, 2);
    double parts = steps(&g, 4);
    close_rig(&g);
    if (fabs(parts - whole) > 1e-4 * whole) fail_msg("%.9g in parts, %.9g whole", parts, whole);
}

/* Zero before the start; then of least error; moving; still in the last quarter; always positive. */
static void scales_begin_learn_and_rest(void **state)
{
    (void)state;
    const char *const names[] = {"blk.0.attn_k.weight.step", "blk.1.ffn_down.weight.step", "blk.0.attn_q.weight.input_step"};
    struct dan_train_opts o = options("w4a4", "lsq", 32, true);
    struct rig g;
    float at[3][4];
    o.qat.start = 2;
    o.qat.freeze = 0.25;
    open_rig(&g, "llama", &o, 1);
    const int when[] = {2, 1, 3, 2};           /* done then: 2, 3, 6, 8 */
    for (int t = 0; t < 4; t++) {
        steps(&g, when[t]);
        for (int i = 0; i < 3; i++) at[i][t] = tensor(&g, names[i])[0];
    }
    for (int i = 0; i < 3; i++) {
        assert_true(at[i][0] == 0);
        assert_true(at[i][1] > 0);
        assert_true(at[i][2] > 0 && at[i][2] != at[i][1]);
        assert_true(at[i][3] == at[i][2]);
    }
    close_rig(&g);
}

static void clipped_scales_are_fixed(void **state)
{
    (void)state;
    struct dan_train_opts o = options("w3", "clipped-ste", 32, false);
    struct rig g;
    open_rig(&g, "llama", &o, 1);
    steps(&g, 1);
    float first = tensor(&g, "blk.0.attn_k.weight.step")[0];
    steps(&g, 5);
    assert_true(first > 0 && tensor(&g, "blk.0.attn_k.weight.step")[0] == first);
    close_rig(&g);
}

/* PACT with everything inside the clips has no gradient for them: they shrink by the decay alone. */
static void pact_clips_shrink(void **state)
{
    (void)state;
    struct dan_train_opts o = options("w8", "pact", 0, false);
    struct rig g;
    o.qat.clip_decay = 5;
    open_rig(&g, "llama", &o, 1);
    struct dan_err e = {0};
    assert_int_equal(dan_trainer_begin_rounding(g.t, &e), DAN_OK);
    float *s = tensor(&g, "blk.0.attn_k.weight.step"), before;
    for (int r = 0; r < 32; r++) s[r] *= 100;
    before = s[0];
    steps(&g, 4);
    assert_true(s[0] < before && s[0] > 0.8f * before);
    close_rig(&g);
}

/* What is evaluated has no chance in it, and differs from float. */
static void evaluation_is_hard_and_deterministic(void **state)
{
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        struct dan_train_opts o = kind(k);
        struct dan_err e = {0};
        struct rig g;
        double a = 0, b = 0, f = 0;
        open_rig(&g, "llama", &o, 2);
        steps(&g, 2);
        assert_int_equal(dan_trainer_eval(g.t, 0, &a, NULL, &e), 0);
        assert_int_equal(dan_trainer_eval(g.t, 0, &b, NULL, &e), 0);
        assert_int_equal(dan_trainer_eval_float(g.t, 0, &f, NULL, &e), 0);
        assert_true(a == b && a != f && fabs(a - f) < 0.5);
        close_rig(&g);
    }
}

static void studies_leave_the_model_alone(void **state)
{
    (void)state;
    struct dan_train_opts o = options("w2", "ste", 32, false), plain = options(NULL, NULL, 0, false);
    struct dan_err e = {0};
    struct dan_qat_result ptq, qat, control;
    struct rig g;
    open_rig(&g, "llama", &plain, 2);
    steps(&g, 8);
    uint64_t h = hash_of(&g.lm);
    o.steps = 0;
    assert_int_equal(dan_qat_run(&g.lm, data, data, &o, 0, g.pool, &ptq, NULL, &e), 0);
    o.steps = plain.steps = 30;
    assert_int_equal(dan_qat_run(&g.lm, data, data, &o, 0, g.pool, &qat, NULL, &e), 0);
    assert_int_equal(dan_qat_run(&g.lm, data, data, &plain, 0, g.pool, &control, NULL, &e), 0);
    assert_true(hash_of(&g.lm) == h);
    assert_true(control.loss == control.float_loss && control.loss < ptq.float_loss);
    assert_true(ptq.loss > ptq.float_loss && qat.loss < ptq.loss);
    close_rig(&g);
}

static void schemes_say_what_they_want(void **state)
{
    (void)state;
    const struct { const char *scheme, *method, *says; int64_t group; bool is_static; } bad[] = {
        {"w5", "ste", "w4a4", -1, false},       {"w4", "magic", "quantnoise", -1, false}, {"w4", "ste", "32, 64 or 128", 48, false},
        {"w8a8", "ste", "0 or 32", 64, false},  {"w4a8", "lsq", "static", -1, true},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_qat_opts o;
        struct dan_err e = {0};
        assert_int_equal(dan_qat_policy(bad[i].scheme, bad[i].method, bad[i].group, bad[i].is_static, &o, &e), DAN_EUSAGE);
        if (!strstr(e.msg, bad[i].says)) fail_msg("'%s' does not say '%s'", e.msg, bad[i].says);
    }
    struct dan_train_opts o = options("w4", "ste", 64, false);           /* rows of 32 */
    struct dan_err e = {0};
    struct dan_lm lm;
    struct dan_lm_config c = {.vocab = VOCAB, .context = 24, .hidden = 32, .layers = 1, .heads = 4, .ffn = 64};
    struct dan_trainer *t = NULL;
    assert_int_equal(dan_lm_init(&lm, dan_model_find("llama"), &c, 1, &e), 0);
    assert_int_not_equal(dan_trainer_new(&lm, data, data, &o, NULL, &t, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "--qat-group"));
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_threads_and_any_method), cmocka_unit_test(resume_same_bytes), cmocka_unit_test(fusion_changes_rounding_only),
        cmocka_unit_test(accumulated), cmocka_unit_test(scales_begin_learn_and_rest), cmocka_unit_test(clipped_scales_are_fixed),
        cmocka_unit_test(pact_clips_shrink), cmocka_unit_test(evaluation_is_hard_and_deterministic),
        cmocka_unit_test(studies_leave_the_model_alone), cmocka_unit_test(schemes_say_what_they_want),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
