/* Adapters at inference: switched by data, row by row, to the bits that each has alone; merged, taken away again, stacked; in files and back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "infer/session.h"
#include "model/lora_files.h"
#include "model/quantize.h"
#include "model/score.h"
#include "pass/fake_quant.h"

enum { VOCAB = 37, N = 11 };
static const int32_t text[N] = {1, 5, 9, 2, 30, 7, 8, 1, 3, 36, 4};

static struct dan_lm new_lm(const char *family)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = 64, .layers = 2, .heads = 4, .kv_heads = !strcmp(family, "gpt") ? 4 : 2, .tied = true,
                                .bias = !strcmp(family, "gpt"), .init_std = 0.05, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 3, &e)) fail_msg("%s", e.msg);
    return lm;
}

/* An adapter with a B that is not zero and magnitudes that are not the norms. */
static void add(struct dan_lm *lm, const char *name, const char *targets, int64_t rank, bool dora, uint64_t seed)
{
    struct dan_lora_opts o = {.name = name, .rank = rank, .alpha = 2 * (double)rank + 1, .targets = targets, .last_layer = -1, .seed = seed, .dora = dora};
    struct dan_rng r = {.seed = seed, .stream = 9};
    struct dan_err e = {0};
    if (dan_lora_add(lm, &o, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *tensor = dan_store_name(lm->store, i);
        struct dan_tensor *t = dan_store_at(lm->store, i);
        float *x = t->data;
        bool b = dan_str_ends(tensor, ".lora_b"), m = dan_str_ends(tensor, ".dora_m");
        if (!dan_lora_owns(tensor, name) || (!b && !m)) continue;
        for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) x[k] = b ? (float)(0.1 * dan_rng_normal(&r)) : x[k] * (float)(1 + 0.1 * dan_rng_normal(&r));
    }
    if (dan_lora_refresh(lm, name, NULL, &e)) fail_msg("%s", e.msg);
}

static uint64_t mask;                          /* CPU features; 0: all */

static struct dan_session *open_session(struct dan_lm *lm, int64_t slots, bool adapters)
{
    struct dan_session_opts o = {.slots = slots, .max_select = slots * N, .adapters = adapters, .cpu_mask = mask};
    struct dan_session *s;
    struct dan_err e = {0};
    if (dan_session_new(lm, &o, &s, &e)) fail_msg("%s", e.msg);
    return s;
}

static void feed(struct dan_session *s, int32_t slots, float logits[][N * VOCAB])
{
    struct dan_feed f[3];
    struct dan_err e = {0};
    for (int32_t i = 0; i < slots; i++) {
        f[i] = (struct dan_feed){.slot = i, .tokens = text, .n = N, .n_logits = N, .logits = logits[i]};
        dan_session_reset(s, i);
    }
    if (dan_session_feed(s, f, slots, &e)) fail_msg("%s", e.msg);
}

static void run(struct dan_lm *lm, float logits[N * VOCAB])
{
    struct dan_session *s = open_session(lm, 1, false);
    feed(s, 1, (float(*)[N * VOCAB])logits);
    dan_session_free(s);
}

static double apart(const float *a, const float *b)
{
    double worst = 0, top = 0;
    for (int i = 0; i < N * VOCAB; i++) {
        top = fmax(top, fabs((double)a[i]));
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    }
    return worst / top;
}

static void set_on(struct dan_lm *lm, const char *name)
{
    for (int k = 0; k < lm->n_adapters; k++) lm->adapter[k].on = name && !strcmp(lm->adapter[k].name, name);
}

static float alone[3][N * VOCAB], got[3][N * VOCAB], base[N * VOCAB];

static struct dan_lm with_both(const char *family, bool quantised)
{
    struct dan_lm lm = new_lm(family);
    struct dan_err e = {0};
    if (quantised && dan_lm_quantize(&lm, &dan_dtype_q8_0, NULL, NULL, &e)) fail_msg("%s", e.msg);
    add(&lm, "a", "all-linear", 4, false, 5);
    add(&lm, "b", "attn", 3, true, 6);
    return lm;
}

/* Two adapters and none in one batch; then all three slots in turn. */
static void test_switch(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gpt"}, *const who[] = {"a", "b", NULL};
    for (int f = 0; f < 6; f++) {              /* floats, q8_0, q8_0 on plain C kernels */
        struct dan_err e = {0};
        mask = f >= 4 ? dan_isa_mask("scalar") : 0;
        for (int k = 0; k < 3; k++) {
            struct dan_lm one = with_both(families[f % 2], f >= 2);
            set_on(&one, who[k]);
            run(&one, alone[k]);
            dan_lm_release(&one);
        }
        assert_true(apart(alone[0], alone[2]) > 0.01 && apart(alone[1], alone[2]) > 0.01);
        struct dan_lm lm = with_both(families[f % 2], f >= 2);
        struct dan_session *s = open_session(&lm, 3, true);
        for (int turn = 0; turn < 2; turn++) {
            for (int32_t i = 0; i < 3; i++) {
                assert_int_equal(dan_session_adapter(s, i, NULL, 0, &e), DAN_OK);
                if (who[(i + turn) % 3]) assert_int_equal(dan_session_adapter(s, i, who[(i + turn) % 3], 1, &e), DAN_OK);
            }
            feed(s, 3, got);
            for (int i = 0; i < 3; i++)
                if (memcmp(got[i], alone[(i + turn) % 3], sizeof *got)) fail_msg("family %d, slot %d: %.3g apart", f, i, apart(got[i], alone[(i + turn) % 3]));
        }
        assert_int_equal(dan_session_adapter(s, 0, "owl", 1, &e), DAN_EINVAL);
        dan_session_free(s);
        dan_lm_release(&lm);
    }
    mask = 0;
}

static void test_merge(void **state)
{
    (void)state;
    for (int dora = 0; dora < 2; dora++) {
        struct dan_lm lm = new_lm("llama");
        struct dan_err e = {0};
        run(&lm, base);
        add(&lm, "a", "all-linear", 4, dora, 5);
        run(&lm, alone[0]);
        assert_int_equal(dan_lora_merge(&lm, "a", 1, &e), DAN_OK);
        run(&lm, got[0]);
        assert_true(apart(alone[0], got[0]) < 1e-5);
        int rc = dan_lora_merge(&lm, "a", -1, &e);
        if (dora) {
            assert_int_equal(rc, DAN_EUNSUPPORTED);
            assert_non_null(strstr(e.msg, "go back to the base model"));
        } else {
            set_on(&lm, NULL);
            run(&lm, got[0]);
            assert_true(apart(base, got[0]) < 1e-5);
        }
        dan_lm_release(&lm);
    }
}

static double first_weight(const struct dan_lm *lm) { return (double)((const float *)dan_store_find(lm->store, "blk.0.attn_q.weight")->data)[3]; }

/* What is refused changes no matrix: the last of the adapter's in another format; a head that the adapter replaced. */
static void test_merge_refused(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama");
    struct dan_err e = {0};
    add(&lm, "a", "all-linear", 4, false, 5);
    double before = first_weight(&lm);
    struct dan_tensor *last = dan_store_find(lm.store, "blk.1.ffn_down.weight"), kept = *last;
    last->dtype = &dan_dtype_q8_0;
    assert_int_equal(dan_lora_merge(&lm, "a", 1, &e), DAN_EUNSUPPORTED);
    assert_true(first_weight(&lm) == before);
    *last = kept;
    assert_int_equal(dan_lm_add_score(&lm, &(struct dan_score_opts){.adapter = "a", .std = 1}, &e), DAN_OK);
    assert_int_equal(dan_lora_merge(&lm, "a", 1, &e), DAN_OK);
    assert_non_null(dan_lm_score_of(&lm, NULL));
    double merged = first_weight(&lm);
    assert_true(merged != before && !lm.adapter[0].on);
    e = (struct dan_err){0};
    assert_int_equal(dan_lora_merge(&lm, "a", -1, &e), DAN_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "go back to the base model"));
    assert_true(first_weight(&lm) == merged && !lm.adapter[0].on);
    dan_lm_release(&lm);
}

/* The session's adapters are those that were on when it was made, whatever comes or goes later. */
static void test_session_set(void **state)
{
    (void)state;
    struct dan_lm lm = with_both("llama", false);
    set_on(&lm, "a");
    run(&lm, alone[0]);
    struct dan_session *s = open_session(&lm, 2, true);
    struct dan_err e = {0};
    assert_int_equal(dan_session_adapter(s, 0, "b", 1, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "adapter 'b' was off when the session was made"));
    add(&lm, "c", "mlp", 2, false, 7);
    assert_int_equal(dan_session_adapter(s, 0, "c", 1, &e), DAN_EINVAL);
    assert_int_equal(dan_session_adapter(s, 1, NULL, 0, &e), DAN_OK);
    assert_int_equal(dan_session_adapter(s, 1, "a", 1, &e), DAN_OK);
    feed(s, 2, got);
    for (int i = 0; i < 2; i++) assert_memory_equal(got[i], alone[0], sizeof *got);
    dan_session_free(s);
    dan_lm_release(&lm);
}

/* Rounded products have room for one adapter, whichever comes first; where they do not meet, each keeps its place. */
static void test_qat_takes_one(void **state)
{
    (void)state;
    struct dan_quant_policy q = {.method = DAN_QAT_STE, .weight_bits = 8, .act_bits = 8};
    struct dan_io io = {.max_rows = 4, .loss = true};
    struct dan_pass_opts o = {.quant = &q};
    for (int k = 0; k < 3; k++) {              /* the frozen one first, last, and on other matrices */
        struct dan_lm lm = new_lm("llama");
        struct dan_graph *g = NULL;
        struct dan_err e = {0};
        add(&lm, "a", "attn", 4, false, 5);
        add(&lm, "b", k == 2 ? "mlp" : "all-linear", 4, false, 6);
        lm.adapter[k != 1].trained = true;
        int rc = dan_lm_graph(&lm, &io, DAN_PIPELINE_TRAIN, &o, &g, &e);
        assert_int_equal(rc, k == 2 ? DAN_OK : DAN_EINVAL);
        if (k < 2) assert_non_null(strstr(e.msg, k ? "merge 'b' first" : "merge 'a' first"));
        else dan_graph_free(g);
        dan_lm_release(&lm);
    }
}

/* cat is the sum to rounding, whatever matrices each has; linear is another function. */
static void test_stack(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b"};
    static const double weights[] = {0.7, -1.25};
    struct dan_lm lm = new_lm("llama");
    struct dan_err e = {0};
    add(&lm, "a", "all-linear", 4, false, 5);
    add(&lm, "b", "attn", 4, false, 6);
    double scale[2] = {lm.adapter[0].scale, lm.adapter[1].scale};
    for (int k = 0; k < 2; k++) lm.adapter[k].scale *= weights[k];
    run(&lm, alone[0]);
    for (int k = 0; k < 2; k++) lm.adapter[k].scale = scale[k];
    assert_int_equal(dan_lora_stack(&lm, names, weights, 2, DAN_LORA_CAT, "both", &e), DAN_OK);
    assert_int_equal(dan_lora_part(&lm, "blk.0.attn_q.weight", "both", "lora_a")->shape.d[0], 8);
    assert_int_equal(dan_lora_part(&lm, "blk.0.ffn_up.weight", "both", "lora_a")->shape.d[0], 8);
    run(&lm, got[0]);
    assert_true(apart(alone[0], got[0]) < 1e-5);
    assert_int_equal(dan_lora_stack(&lm, names, weights, 2, DAN_LORA_LINEAR, "mixed", &e), DAN_OK);
    set_on(&lm, "mixed");
    run(&lm, got[1]);
    assert_true(apart(alone[0], got[1]) > 1e-3);
    add(&lm, "c", "attn", 2, true, 7);
    assert_int_not_equal(dan_lora_stack(&lm, (const char *const[]){"a", "c"}, weights, 2, DAN_LORA_CAT, "d", &e), DAN_OK);
    assert_non_null(strstr(e.msg, "is DoRA"));
    e = (struct dan_err){0};
    assert_int_equal(dan_lm_add_score(&lm, &(struct dan_score_opts){.adapter = "b", .std = 1}, &e), DAN_OK);
    assert_int_equal(dan_lora_stack(&lm, names, weights, 2, DAN_LORA_CAT, "d", &e), DAN_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "adapter 'b' has a score head of its own"));
    assert_int_equal(dan_lora_drop(&lm, &e), DAN_OK);
    assert_int_equal(lm.n_adapters, 0);
    for (size_t i = 0; i < dan_store_count(lm.store); i++) assert_null(strchr(dan_store_name(lm.store, i), '@'));
    dan_lm_release(&lm);
}

/* Written and read: the same logits to the bit; also a stack of unequal ranks, which needs patterns. */
static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/danlu-adapters-XXXXXX", path[100];
    struct dan_err e = {0};
    assert_non_null(mkdtemp(dir));
    for (int kind = 0; kind < 4; kind++) {                       /* folder, folder with DoRA, gguf, folder of unequal ranks */
        struct dan_lm lm = new_lm("llama");
        add(&lm, "a", kind == 3 ? "mlp" : "all-linear", 3, kind == 1, 5);
        if (kind == 3) {                       /* as another tool may have made it: attention of rank 5 under one name */
            add(&lm, "b", "attn", 5, false, 6);
            lm.adapter[1].scale = lm.adapter[0].scale;
            run(&lm, alone[0]);
            for (size_t i = 0, n = dan_store_count(lm.store); i < n; i++) {
                char renamed[200];
                const char *t = dan_store_name(lm.store, i);
                if (!dan_lora_owns(t, "b")) continue;
                snprintf(renamed, sizeof renamed, "%.*s@a%s", (int)(strchr(t, '@') - t), t, strrchr(t, '.'));
                assert_int_equal(dan_store_share(lm.store, renamed, lm.store, t, &e), DAN_OK);
            }
        } else run(&lm, alone[0]);
        snprintf(path, sizeof path, "%s/%d%s", dir, kind, kind == 2 ? ".gguf" : "");
        if (kind == 2 ? dan_lora_save_gguf(&lm, "a", path, &e) : dan_lora_save(&lm, "a", path, "base", &e)) fail_msg("%s", e.msg);
        assert_true(dan_lora_is_gguf(path) == (kind == 2));
        dan_lm_release(&lm);
        lm = new_lm("llama");
        if (dan_lora_load(&lm, path, "again", &e)) fail_msg("%s", e.msg);
        run(&lm, got[0]);
        if (apart(alone[0], got[0]) > (kind == 3 ? 1e-6 : 1e-7)) fail_msg("kind %d: %g", kind, apart(alone[0], got[0]));
        dan_lm_release(&lm);
    }
    struct dan_lm lm = new_lm("gpt");
    snprintf(path, sizeof path, "%s/2.gguf", dir);
    assert_int_not_equal(dan_lora_load(&lm, path, "x", &e), DAN_OK);
    assert_non_null(strstr(e.msg, "is an adapter of architecture 'llama'"));
    assert_int_equal(lm.n_adapters, 0);
    dan_lm_release(&lm);
    dan_remove_tree(dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_switch), cmocka_unit_test(test_merge), cmocka_unit_test(test_merge_refused),
                                       cmocka_unit_test(test_session_set), cmocka_unit_test(test_qat_takes_one), cmocka_unit_test(test_stack),
                                       cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
