/* What tests of adapters under the tuner share: a small model, an adapter on it, two sequences. */
#ifndef DAN_ALIGN_TEST_TUNER_H
#define DAN_ALIGN_TEST_TUNER_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "align/test_loss.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/lora.h"

enum { VOCAB = 37 };
static const int32_t seq[2][12] = {{1, 5, 9, 2, 30, 7, 8, 1, 3, 36, 4, 2}, {4, 4, 17, 20, 6, 2}};
static const int64_t seq_n[2] = {12, 6};

static inline struct dan_lm lm_of(const char *family, int64_t hidden, int64_t layers)
{
    struct dan_lm_config cfg = {.vocab = VOCAB, .context = 32, .hidden = hidden, .layers = layers, .heads = 2, .tied = true, .bias = !strcmp(family, "gpt"), .init_std = 0.05, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 3, &e)) fail_msg("%s", e.msg);
    return lm;
}

static inline struct dan_lm new_lm(const char *family) { return lm_of(family, 64, 2); }

static inline void add(struct dan_lm *lm, bool dora, bool learnt)
{
    struct dan_lora_opts o = {.rank = 4, .alpha = 16, .targets = "all-linear", .last_layer = -1, .seed = 5, .dora = dora};
    struct dan_rng r = {.seed = 8};
    struct dan_err e = {0};
    if (dan_lora_add(lm, &o, &e)) fail_msg("%s", e.msg);
    lm->adapter[0].trained = true;
    for (size_t i = 0; learnt && i < dan_store_count(lm->store); i++) {
        const char *name = dan_store_name(lm->store, i);
        struct dan_tensor *t = dan_store_at(lm->store, i);
        float *x = t->data;
        bool b = dan_str_ends(name, ".lora_b"), m = dan_str_ends(name, ".dora_m");
        for (int64_t k = 0; (b || m) && k < dan_shape_count(&t->shape); k++) x[k] = (float)(b ? 0.05 * dan_rng_normal(&r) : (double)x[k] * (1 + 0.1 * dan_rng_normal(&r)));
    }
    if (dan_lora_refresh(lm, NULL, NULL, &e)) fail_msg("%s", e.msg);
}

static inline struct dan_tuner *tuner_of(struct dan_lm *lm, struct dan_tuner_opts o)
{
    struct dan_tuner *t;
    struct dan_err e = {0};
    o.max_rows = ROWS;
    o.optim = dan_optim_find("adamw");
    o.beta1 = 0.9, o.beta2 = 0.999, o.eps = 1e-12;
    if (dan_tuner_new(lm, &o, NULL, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static inline struct dan_packed packed(void)
{
    struct dan_packed p;
    struct dan_err e = {0};
    float w[12];
    for (int i = 0; i < 12; i++) w[i] = i > 1 ? 0.25f : 0;
    assert_int_equal(dan_packed_init(&p, ROWS, &e), DAN_OK);
    for (int i = 0; i < 2; i++) dan_packed_add(&p, seq[i], seq_n[i], w);
    return p;
}

static inline int64_t score(struct dan_tuner *t, bool exact, float nll[ROWS])
{
    struct dan_packed p = packed();
    struct dan_err e = {0};
    if (dan_tuner_score(t, &p, exact, nll, &e)) fail_msg("%s", e.msg);
    int64_t n = p.batch.rows;
    dan_packed_release(&p);
    return n;
}

static inline int64_t score_lm(struct dan_lm *lm, float nll[ROWS])
{
    struct dan_tuner *t = tuner_of(lm, (struct dan_tuner_opts){.frozen = true});
    int64_t n = score(t, false, nll);
    dan_tuner_free(t);
    return n;
}

#endif
