/* score/: models and an adapter with a score head: values at every token, the score at the last, gradients; written by danlu, the same tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/reward_model.h"
#include "base/file.h"
#include "base/str.h"
#include "io/safetensors.h"
#include "model/lora_files.h"
#include "model/score.h"

enum { T = 12, TEXTS = 3, ROWS = 40 };
static const char *const kinds[] = {"llama", "gpt2", "adapter"};
struct golden { const char *kind; struct dan_store *values, *file; struct dan_lm lm; bool adapter; };

static struct golden open_golden(const char *kind)
{
    struct golden g = {.kind = kind, .adapter = !strcmp(kind, "adapter")};
    struct dan_err e = {0};
    char path[3][200];
    snprintf(path[0], sizeof path[0], "tests/golden/score/%s", g.adapter ? "llama" : kind);
    snprintf(path[1], sizeof path[1], "tests/golden/score/%s/golden.safetensors", kind);
    snprintf(path[2], sizeof path[2], "tests/golden/score/%s/%s.safetensors", kind, g.adapter ? "adapter_model" : "model");
    if (dan_lm_load(&g.lm, path[0], true, &e) || dan_safetensors_open(path[1], &g.values, &e) || dan_safetensors_open(path[2], &g.file, &e)) fail_msg("%s", e.msg);
    if (g.adapter && dan_lora_load(&g.lm, "tests/golden/score/adapter", "a", &e)) fail_msg("%s", e.msg);
    if (g.adapter) g.lm.adapter[0].trained = true;
    return g;
}

static void close_golden(struct golden *g)
{
    dan_lm_release(&g->lm);
    dan_store_free(g->values);
    dan_store_free(g->file);
}

static const void *golden(const struct golden *g, const char *name)
{
    const struct dan_tensor *t = dan_store_find(g->values, name);
    if (!t) fail_msg("%s has no '%s'", g->kind, name);
    return t->data;
}

static struct dan_tuner *new_tuner(struct dan_lm *lm)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .head = DAN_HEAD_SCORE, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

/* The three texts, packed, with their weights. */
static struct dan_packed packed(const struct golden *g)
{
    const int32_t *tokens = golden(g, "tokens"), *length = golden(g, "length");
    const float *weights = golden(g, "weights");
    struct dan_packed p;
    struct dan_err e = {0};
    if (dan_packed_init(&p, ROWS, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < TEXTS; i++) dan_packed_add_all(&p, tokens + (ptrdiff_t)i * T, length[i], weights + (ptrdiff_t)i * T);
    return p;
}

static void near_to(const char *what, const float *got, const float *want, int64_t n, double tolerance)
{
    double top = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        top = fmax(top, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    if (!(worst <= tolerance * fmax(top, 0.1))) fail_msg("%s: difference %.3g of %.3g", what, worst, top);
}

static void check_values(const struct golden *g, struct dan_tuner *t)
{
    struct dan_packed p = packed(g);
    struct dan_err e = {0};
    const int32_t *tokens = golden(g, "tokens"), *length = golden(g, "length");
    float got[ROWS], score[TEXTS];
    double value[TEXTS];
    struct dan_sft_row text[TEXTS];
    const struct dan_sft_row *row[TEXTS];
    assert_int_equal(dan_tuner_score(t, &p, false, got, &e), DAN_OK);
    int64_t r = 0;
    for (int i = 0; i < TEXTS; r += length[i++]) {
        near_to(g->kind, got + r, (const float *)golden(g, "values") + (ptrdiff_t)i * T, length[i], 1e-5);
        text[i] = (struct dan_sft_row){.ids = (int32_t *)(uintptr_t)tokens + (ptrdiff_t)i * T, .n = length[i]};
        row[i] = &text[i];
    }
    assert_int_equal(dan_rows_value(t, row, TEXTS, &p, value, &e), DAN_OK);
    for (int i = 0; i < TEXTS; i++) score[i] = (float)value[i];
    near_to("scores", score, golden(g, "logits"), TEXTS, 1e-5);
    dan_packed_release(&p);
}

static void test_values(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) {
        struct golden g = open_golden(kinds[k]);
        struct dan_tuner *t = new_tuner(&g.lm);
        assert_true(g.lm.cfg.score && g.lm.cfg.no_lm_head);
        check_values(&g, t);
        dan_tuner_free(t);
        close_golden(&g);
    }
}

/* "blk.0.attn_q.weight@a.lora_b" and others -> the name in the golden file; false: it has none. */
static bool name_of(const struct golden *g, const char *ours, char out[400], bool *turned)
{
    const char *at = strchr(ours, '@');
    char base[200], hf[200];
    snprintf(base, sizeof base, "%.*s", at ? (int)(at - ours) : 199, ours);
    if (!dan_lm_hf_name(g->lm.model, base, hf, sizeof hf, turned)) return false;
    if (g->adapter && strcmp(base, "score.weight")) hf[strlen(hf) - strlen(".weight")] = 0;
    const char *part = !at || !strcmp(base, "score.weight") ? "" : strstr(at, "lora_a") ? ".lora_A.weight" : ".lora_B.weight";
    snprintf(out, 400, "grad.%s%s%s", g->adapter ? "base_model.model." : "", hf, part);
    return true;
}

/* Joined gradients ("a+b+c") part by part. */
static int check_gradients(const struct golden *g, struct dan_tuner *t)
{
    struct dan_store *s = dan_tuner_state(t);
    int checked = 0;
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const char *names = dan_store_name(s, i);
        if (!dan_str_starts(names, "sum:")) continue;
        const float *at = dan_store_at(s, i)->data;
        for (const char *p = names + 4; *p;) {
            char ours[200], theirs[400];
            bool turned = false;
            snprintf(ours, sizeof ours, "%.*s", (int)strcspn(p, "+"), p);
            p += strcspn(p, "+");
            p += *p == '+';
            const struct dan_tensor *w = dan_store_find(g->lm.store, ours);
            const struct dan_tensor *want = name_of(g, ours, theirs, &turned) ? dan_store_find(g->values, theirs) : NULL;
            int64_t n = dan_shape_count(&w->shape), cols = dan_cols(w);
            for (int64_t k = 0; want && k < n; k++) {
                float x = ((const float *)want->data)[turned ? k % cols * (n / cols) + k / cols : k];
                if (!(fabsf(at[k] - x) <= 2e-5f * (1 + fabsf(x)))) fail_msg("%s: %s[%lld] is %g, not %g", g->kind, ours, (long long)k, (double)at[k], (double)x);
            }
            checked += want != NULL;
            at += n;
        }
    }
    return checked;
}

static void test_gradients(void **state)
{
    (void)state;
    static const int tensors[] = {12, 17, 5};     /* of layer 0 and outside the layers */
    for (int k = 0; k < 3; k++) {
        struct golden g = open_golden(kinds[k]);
        struct dan_tuner *t = new_tuner(&g.lm);
        struct dan_packed p = packed(&g);
        struct dan_err e = {0};
        assert_int_equal(dan_tuner_add(t, &p, NULL, &e), DAN_OK);
        assert_int_equal(check_gradients(&g, t), tensors[k]);
        dan_packed_release(&p);
        dan_tuner_free(t);
        close_golden(&g);
    }
}

static void same_tensors(const struct dan_store *a, const struct dan_store *b)
{
    assert_int_equal(dan_store_count(a), dan_store_count(b));
    for (size_t i = 0; i < dan_store_count(a); i++) {
        const struct dan_tensor *x = dan_store_at(a, i), *y = dan_store_find(b, dan_store_name(a, i));
        if (!y) fail_msg("no '%s'", dan_store_name(a, i));
        assert_true(dan_shape_equal(&x->shape, &y->shape));
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
}

/* $DANLU_SCORE_OUT keeps what is written, for make_score_golden.py --check. */
static void test_files(void **state)
{
    (void)state;
    const char *keep = getenv("DANLU_SCORE_OUT");
    char temporary[] = "/tmp/danlu-score-XXXXXX";
    const char *out = keep ? keep : mkdtemp(temporary);
    assert_non_null(out);
    for (int k = 0; k < 3; k++) {
        struct golden g = open_golden(kinds[k]);
        struct dan_store *mine = NULL;
        struct dan_err e = {0};
        char dir[300], path[400];
        snprintf(dir, sizeof dir, "%s/%s", out, kinds[k]);
        snprintf(path, sizeof path, "%s/%s.safetensors", dir, g.adapter ? "adapter_model" : "model");
        g.lm.cfg.reward_bias = 0.25;
        if (g.adapter ? dan_lora_save(&g.lm, "a", dir, "llama", &e) : dan_lm_save(&g.lm, dir, &e)) fail_msg("%s", e.msg);
        if (dan_safetensors_open(path, &mine, &e)) fail_msg("%s", e.msg);
        same_tensors(g.file, mine);
        dan_store_free(mine);
        struct dan_lm again = {0};
        if (!g.adapter && dan_lm_load(&again, dir, true, &e)) fail_msg("%s", e.msg);
        if (!g.adapter) assert_true(again.cfg.score && again.cfg.no_lm_head && again.cfg.reward_bias == 0.25);
        dan_lm_release(&again);
        close_golden(&g);
    }
    struct dan_err e = {0};
    if (!keep) assert_int_equal(dan_remove_tree(out, &e), DAN_OK);
}

/* Merged, the adapter's head is the model's. */
static void test_merge(void **state)
{
    (void)state;
    struct golden g = open_golden("adapter");
    struct dan_err e = {0};
    if (dan_lora_merge(&g.lm, "a", 1, &e)) fail_msg("%s", e.msg);
    g.lm.adapter[0].trained = false;
    struct dan_tuner *t = new_tuner(&g.lm);
    check_values(&g, t);
    dan_tuner_free(t);
    close_golden(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_gradients), cmocka_unit_test(test_files), cmocka_unit_test(test_merge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
