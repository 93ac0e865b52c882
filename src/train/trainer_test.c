/* The trainer: the same bytes for any number of threads, after resuming, and with recomputed activations; the
 * same loss however a step is cut; nothing allocated or inferred after the first step (R8, R9). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/count_allocs.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "exec/exec.h"
#include "io/checkpoint.h"
#include "train/trainer.h"

enum { VOCAB = 23, TOKENS = 3000, DOC = 150 };
static struct dan_shards *data;
static char dir[] = "/tmp/danlu-trainer-XXXXXX";

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

static struct dan_train_opts defaults(void)
{
    return (struct dan_train_opts){.steps = 8,
                                   .batch = 4,
                                   .accumulate = 1,
                                   .context = 24,
                                   .lr = 3e-3,
                                   .min_lr = 3e-4,
                                   .warmup = 2,
                                   .decay_fraction = 0.2,
                                   .schedule = dan_schedule_find("cosine"),
                                   .optim = dan_optim_find("adamw"),
                                   .weight_decay = 0.1,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .eps = 1e-8,
                                   .clip = 1,
                                   .seed = 11};
}

struct result { uint64_t hash; double loss[40], val; };

static uint64_t hash_weights(const struct dan_lm *lm)
{
    uint64_t h = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        if (strchr(dan_store_name(lm->store, i), '+')) continue;
        h = h * 31 + dan_crc32(0, t->data, dan_tensor_bytes(t));
    }
    return h;
}

struct rig { struct dan_lm lm; struct dan_pool *pool; struct dan_trainer *t; };

static void open_rig(struct rig *g, const char *model, const struct dan_train_opts *o, int threads)
{
    struct dan_err e = {0};
    struct dan_lm_config c = {.vocab = VOCAB,
                              .context = 24,
                              .hidden = 32,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = strcmp(model, "llama") ? 0 : 2,
                              .tied = true,
                              .bias = true};
    if (dan_pool_new(threads, &g->pool, &e) || dan_lm_init(&g->lm, dan_model_find(model), &c, o->seed, &e) ||
        dan_trainer_new(&g->lm, data, data, o, g->pool, &g->t, &e)) fail_msg("%s: %s", model, e.msg);
}

static void close_rig(struct rig *g)
{
    dan_trainer_free(g->t);
    dan_lm_release(&g->lm);
    dan_pool_free(g->pool);
}

static struct result train(const char *model, const struct dan_train_opts *o, int threads)
{
    struct rig g;
    struct result r = {0};
    struct dan_err e = {0};
    struct dan_step_stats s;
    open_rig(&g, model, o, threads);
    for (int64_t i = 0; i < o->steps; i++) {
        if (dan_trainer_step(g.t, &s, &e)) fail_msg("%s: %s", model, e.msg);
        r.loss[i] = s.loss;
    }
    if (dan_trainer_eval(g.t, 0, &r.val, NULL, &e)) fail_msg("%s: %s", model, e.msg);
    r.hash = hash_weights(&g.lm);
    assert_int_equal(dan_program_infers(dan_trainer_program(g.t)), 0);
    close_rig(&g);
    return r;
}

static void any_threads(void **state)
{
    const int threads[] = {2, 3, 7};
    (void)state;
    for (int m = 0; dan_models[m]; m++)
        for (int prec = 0; prec < 2; prec++) {
            struct dan_train_opts o = defaults();
            o.steps = 3;
            o.prec = prec ? DAN_PREC_BF16 : DAN_PREC_F32;
            o.dropout = 0.1;
            struct result one = train(dan_models[m]->name, &o, 1);
            for (int k = 0; k < 3; k++)
                if (train(dan_models[m]->name, &o, threads[k]).hash != one.hash)
                    fail_msg("%s prec %d: %d threads give other bytes than 1", dan_models[m]->name, prec, threads[k]);
        }
}

static void learns(void **state)
{
    (void)state;
    for (int m = 0; dan_models[m]; m++) {
        struct dan_train_opts o = defaults();
        o.steps = 40;
        o.lr = dan_models[m]->time_major ? 3e-2 : 1e-2;    /* recurrent ones begin slowly */
        struct result r = train(dan_models[m]->name, &o, 2);
        if (!(r.loss[39] < r.loss[0] - 0.1)) fail_msg("%s: loss %g -> %g", dan_models[m]->name, r.loss[0], r.loss[39]);
        assert_true(isfinite(r.val));
    }
}

static void remat_same_bytes(void **state)
{
    (void)state;
    for (int m = 0; dan_models[m]; m++) {
        struct dan_train_opts o = defaults();
        o.dropout = 0.1;
        struct result keep = train(dan_models[m]->name, &o, 2);
        o.remat = true;
        if (train(dan_models[m]->name, &o, 2).hash != keep.hash)
            fail_msg("%s: recomputed activations give other bytes", dan_models[m]->name);
    }
}

static void accumulation(void **state)
{
    (void)state;
    for (int m = 0; dan_models[m]; m++) {
        struct dan_train_opts o = defaults();
        o.optim = dan_optim_find("sgd");       /* linear in the gradient: differences are not amplified */
        o.lr = 0.05;
        struct result whole = train(dan_models[m]->name, &o, 2);
        o.batch = 1;
        o.accumulate = 4;
        struct result parts = train(dan_models[m]->name, &o, 2);
        for (int i = 0; i < 8; i++)
            if (fabs(parts.loss[i] - whole.loss[i]) > 2e-6 * whole.loss[i])
                fail_msg("%s: step %d: %.9g in parts, %.9g whole", dan_models[m]->name, i, parts.loss[i], whole.loss[i]);
    }
}

static void fusion_changes_rounding_only(void **state)
{
    (void)state;
    for (int m = 0; dan_models[m]; m++) {
        struct dan_train_opts o = defaults();
        o.optim = dan_optim_find("sgd");
        o.lr = 0.05;
        o.pass.head_ce_min_vocab = 8;          /* so that the fused head runs */
        struct result on = train(dan_models[m]->name, &o, 2);
        o.pass.fusion = "off";
        struct result off = train(dan_models[m]->name, &o, 2);
        for (int i = 0; i < 8; i++)
            if (fabs(on.loss[i] - off.loss[i]) > 2e-6 * off.loss[i])
                fail_msg("%s: step %d: %.9g fused, %.9g not", dan_models[m]->name, i, on.loss[i], off.loss[i]);
    }
}

static void resume_same_bytes(void **state)
{
    struct dan_err e = {0};
    (void)state;
    for (int m = 0; dan_models[m]; m++) {
        struct dan_train_opts o = defaults();
        struct rig g;
        struct dan_step_stats s;
        struct dan_str path = {0};
        char *extra = NULL;
        o.dropout = 0.1;
        o.ema = 0.9;
        o.accumulate = 1 + m % 2;
        struct result straight = train(dan_models[m]->name, &o, 2);
        open_rig(&g, dan_models[m]->name, &o, 2);
        for (int i = 0; i < 3; i++) assert_int_equal(dan_trainer_step(g.t, &s, &e), 0);
        if (dan_trainer_save(g.t, dir, "{\"best\": 1.5}", 1, &e)) fail_msg("%s", e.msg);
        close_rig(&g);
        open_rig(&g, dan_models[m]->name, &o, 3);
        if (dan_checkpoint_latest(dir, &path, NULL, &e) || dan_trainer_resume(g.t, dan_str_c(&path), &extra, &e)) fail_msg("%s", e.msg);
        assert_non_null(strstr(extra, "1.5"));
        for (int i = 3; i < 8; i++) assert_int_equal(dan_trainer_step(g.t, &s, &e), 0);
        if (hash_weights(&g.lm) != straight.hash) fail_msg("%s: resumed training ends with other bytes", dan_models[m]->name);
        close_rig(&g);
        dan_free(extra);
        dan_str_release(&path);
    }
}

/* Optimiser state is saved by the names of the model's own weights: a run may go on with other rules. */
static void resume_with_other_fusion(void **state)
{
    static const char *const way[][2] = {{"on", "off"}, {"off", "on"}, {"on", "horizontal"}};
    struct dan_err e = {0};
    (void)state;
    for (int k = 0; k < 3; k++) {
        struct dan_train_opts o = defaults();
        struct rig g;
        struct dan_step_stats s;
        struct dan_str path = {0};
        char *extra = NULL;
        o.ema = 0.9;
        struct result straight = train("llama", &o, 2);
        o.pass.fusion = way[k][0];
        open_rig(&g, "llama", &o, 2);
        for (int i = 0; i < 3; i++) assert_int_equal(dan_trainer_step(g.t, &s, &e), 0);
        if (dan_trainer_save(g.t, dir, NULL, 1, &e)) fail_msg("%s", e.msg);
        close_rig(&g);
        o.pass.fusion = way[k][1];
        open_rig(&g, "llama", &o, 2);
        if (dan_checkpoint_latest(dir, &path, NULL, &e) || dan_trainer_resume(g.t, dan_str_c(&path), &extra, &e)) fail_msg("%s", e.msg);
        for (int i = 3; i < 8; i++) {
            assert_int_equal(dan_trainer_step(g.t, &s, &e), 0);
            if (fabs(s.loss - straight.loss[i]) > 2e-5 * straight.loss[i])
                fail_msg("%s to %s, step %d: %.9g resumed, %.9g straight", way[k][0], way[k][1], i, s.loss, straight.loss[i]);
        }
        close_rig(&g);
        dan_free(extra);
        dan_str_release(&path);
    }
}

/* What a checkpoint was made with is said before its tensors are looked at; a refused one changes nothing. */
static void refused_checkpoints(void **state)
{
    struct dan_train_opts o = defaults();
    struct rig g;
    struct dan_err e = {0};
    struct dan_step_stats s;
    struct dan_str path = {0};
    char *extra = NULL;
    (void)state;
    open_rig(&g, "gpt", &o, 1);
    assert_int_equal(dan_trainer_step(g.t, &s, &e), 0);
    if (dan_trainer_save(g.t, dir, NULL, 1, &e)) fail_msg("%s", e.msg);
    assert_int_not_equal(dan_trainer_save(g.t, "/dev/null/no", NULL, 1, &e), 0); /* a save that fails leaves the run and the older one */
    e = (struct dan_err){0};
    assert_int_equal(dan_trainer_step(g.t, &s, &e), 0);
    close_rig(&g);
    assert_int_equal(dan_checkpoint_latest(dir, &path, NULL, &e), 0);
    for (int i = 0; i < 2; i++) {
        struct dan_train_opts other = defaults();
        if (i) other.seed = 12;
        else other.optim = dan_optim_find("sgd");
        open_rig(&g, "gpt", &other, 1);
        uint64_t before = hash_weights(&g.lm);
        e = (struct dan_err){0};
        assert_int_equal(dan_trainer_resume(g.t, dan_str_c(&path), &extra, &e), DAN_EINVAL);
        assert_non_null(strstr(e.msg, "--optimizer adamw, --seed 11"));
        assert_true(!extra && hash_weights(&g.lm) == before && dan_trainer_done(g.t) == 0);
        close_rig(&g);
    }
    dan_str_release(&path);
}

static int short_life(struct dan_lm *lm, const struct dan_train_opts *o, int64_t *calls_of_steps, struct dan_err *e)
{
    struct dan_trainer *t = NULL;
    struct dan_step_stats s;
    double loss;
    int rc = dan_trainer_new(lm, data, data, o, NULL, &t, e);
    if (!rc) rc = dan_trainer_step(t, &s, e);
    if (!rc) rc = dan_trainer_eval(t, 2, &loss, NULL, e);
    int64_t before = heap_calls;
    if (!rc) rc = dan_trainer_step(t, &s, e);
    if (!rc) rc = dan_trainer_eval(t, 2, &loss, NULL, e);
    *calls_of_steps = heap_calls - before;
    dan_trainer_free(t);
    return rc;
}

/* Steps and validations leave the heap alone (R8); when it fails before them, at whatever call, there is an error and no leak. */
static void heap(void **state)
{
    struct dan_train_opts o = defaults();
    struct dan_err e = {0};
    struct dan_lm_config c = {.vocab = VOCAB, .context = 24, .hidden = 16, .layers = 1, .heads = 2, .tied = true, .bias = true};
    struct dan_lm lm;
    int64_t calls = -1, k = 0;
    (void)state;
    if (!count_allocs) skip();
    o.accumulate = 2;
    o.ema = 0.9;
    if (dan_lm_init(&lm, dan_model_find("gpt"), &c, 1, &e) || short_life(&lm, &o, &calls, &e)) fail_msg("%s", e.msg);
    assert_int_equal(calls, 0);
    for (int rc = -1; rc;) {
        int64_t live = heap_live;
        e = (struct dan_err){0};
        heap_fail_at = heap_calls + ++k;
        rc = short_life(&lm, &o, &calls, &e);
        bool reached = heap_calls >= heap_fail_at;
        heap_fail_at = 0;
        if (rc != e.code || (rc && rc != DAN_ENOMEM)) fail_msg("allocation %lld failed, and the result is %d: %s", (long long)k, rc, e.msg);
        if (heap_live != live) fail_msg("allocation %lld failed, and %lld blocks are lost", (long long)k, (long long)(heap_live - live));
        if (reached) rc = -1;                  /* survived: qsort works without its buffer */
    }
    assert_true(k > 50);
    dan_lm_release(&lm);
}

static void not_a_number(void **state)
{
    struct dan_train_opts o = defaults();
    struct rig g;
    struct dan_err e = {0};
    struct dan_step_stats s;
    (void)state;
    open_rig(&g, "gpt", &o, 1);
    ((float *)dan_store_find(g.lm.store, "output_norm.weight")->data)[0] = NAN;
    uint64_t before = hash_weights(&g.lm);
    assert_int_not_equal(dan_trainer_step(g.t, &s, &e), 0);
    assert_non_null(strstr(e.msg, "--lr"));
    assert_true(hash_weights(&g.lm) == before);
    close_rig(&g);
}

static void memory_is_known_before(void **state)
{
    struct dan_train_opts o = defaults();
    struct dan_memory before, after;
    struct dan_err e = {0};
    struct rig g;
    (void)state;
    o.threads = 2;
    open_rig(&g, "llama", &o, 2);
    if (dan_train_memory(g.lm.model, &g.lm.cfg, &o, &before, &e)) fail_msg("%s", e.msg);
    dan_trainer_memory(g.t, &after);
    double ratio = (double)before.total / (double)after.total;       /* workspace differs with the number of threads */
    assert_true(ratio > 0.99 && ratio < 1.01);
    close_rig(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(learns),
                                       cmocka_unit_test(any_threads),
                                       cmocka_unit_test(remat_same_bytes),
                                       cmocka_unit_test(accumulation),
                                       cmocka_unit_test(fusion_changes_rounding_only),
                                       cmocka_unit_test(resume_same_bytes),
                                       cmocka_unit_test(resume_with_other_fusion),
                                       cmocka_unit_test(refused_checkpoints),
                                       cmocka_unit_test(heap),
                                       cmocka_unit_test(not_a_number),
                                       cmocka_unit_test(memory_is_known_before)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
