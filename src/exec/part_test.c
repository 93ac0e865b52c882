/* Runs in two parts: every family's training graph can be cut where the rows' losses are known, and both parts together have the bits of one run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "exec/exec.h"
#include "model/lm.h"

enum { ROWS = 8, VOCAB = 19, LANES = 2 };
static const struct dan_lm_config config = {.vocab = VOCAB, .context = ROWS, .hidden = 16, .layers = 2, .heads = 2, .tied = true, .bias = true, .init_std = 0.3,
                                            .bos = -1, .eos = -1};
static const struct { const char *pipeline; int64_t fused_from; bool ref; enum dan_prec prec; } cases[] = {
    {DAN_PIPELINE_TRAIN, 8, false, DAN_PREC_F32},       {DAN_PIPELINE_TRAIN, 1000, false, DAN_PREC_F32}, {DAN_PIPELINE_TRAIN, 8, true, DAN_PREC_BF16},
    {DAN_PIPELINE_TRAIN_REMAT, 8, false, DAN_PREC_F32},
};

struct bench { struct dan_lm lm; struct dan_graph *g; struct dan_program *p; struct dan_pool *pool; int32_t in[6][ROWS]; float weights[ROWS], zero[ROWS]; };

static void new_bench(struct bench *x, const struct dan_model *m, size_t c, bool plan_only)
{
    struct dan_err e = {0};
    *x = (struct bench){0};
    for (int i = 0; i < ROWS; i++) {
        const int32_t in[] = {i, (3 * i + 1) % VOCAB, i, 0, ROWS, i};
        for (int k = 0; k < 6; k++) x->in[k][i] = in[k];
        if (m->time_major) x->in[2][i] = i < LANES;
        x->weights[i] = 0.125f * (float)(i % 3);
    }
    struct dan_io io = {.max_rows = ROWS, .lanes = m->time_major ? LANES : 0, .loss = true};
    struct dan_pass_opts o = {.loss = "loss", .head_ce_min_vocab = cases[c].fused_from, .prec = cases[c].prec};
    int rc = dan_lm_init(&x->lm, m, &config, 1, &e);
    if (!rc) rc = dan_pool_new(2, &x->pool, &e);
    if (!rc) rc = dan_lm_graph(&x->lm, &io, cases[c].pipeline, &o, &x->g, &e);
    if (!rc) rc = dan_compile(x->g, &(struct dan_exec_opts){.ref = cases[c].ref, .pool = x->pool, .plan_only = plan_only}, &x->p, &e);
    if (!rc && !plan_only) rc = dan_bind_store(x->p, x->lm.store, &e);
    if (rc) fail_msg("%s, case %zu: %s", m->name, c, e.msg);
}

static void free_bench(struct bench *x)
{
    dan_program_free(x->p);
    dan_graph_free(x->g);
    dan_lm_release(&x->lm);
    dan_pool_free(x->pool);
}

static void bind(struct bench *x, int64_t rows, float *weights)
{
    static const char *const packed[] = {"tokens", "targets", "pos", "start", "stop", "self"}, *const timed[] = {"tokens", "targets", "reset"};
    struct dan_err e = {0};
    bool in_time = x->lm.model->time_major;
    int rc = DAN_OK;
    for (int k = 0; k < (in_time ? 3 : 6) && !rc; k++) {
        struct dan_tensor t = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(rows), x->in[k]);
        rc = dan_bind(x->p, in_time ? timed[k] : packed[k], &t, &e);
    }
    struct dan_tensor w = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(rows), weights);
    if (!rc) rc = dan_bind(x->p, "weights", &w, &e);
    if (rc) fail_msg("%s: %s", x->lm.model->name, e.msg);
}

/* All outputs, one after the other. */
static float *outputs(const struct bench *x, size_t *n)
{
    float *all = NULL;
    for (int pass = 0; pass < 2; pass++) {
        *n = 0;
        for (int i = 0; i < x->g->n_out; i++) {
            const struct dan_tensor *t = dan_result(x->p, i);
            for (int64_t r = 0; r < dan_rows(t); r++, *n += (size_t)dan_cols(t))
                if (all) memcpy(all + *n, dan_row(t, r), (size_t)dan_cols(t) * sizeof *all);
        }
        if (!all) all = dan_malloc((*n + 1) * sizeof *all);
        assert_non_null(all);
    }
    return all;
}

/* The first part knows no weights; the second has them in other memory. */
static void compare(struct bench *x, int64_t rows, size_t c)
{
    struct dan_err e = {0};
    struct dan_cut cut;
    float losses[ROWS];
    size_t n, m;
    if (dan_program_cut(x->p, "weights", "row_loss", &cut)) fail_msg("%s, case %zu: cannot be cut", x->lm.model->name, c);
    bind(x, rows, x->weights);
    assert_int_equal(dan_run(x->p, &e), DAN_OK);
    float *whole = outputs(x, &n);
    memcpy(losses, dan_result_named(x->p, "row_loss")->data, (size_t)rows * sizeof *losses);
    bind(x, rows, x->zero);
    assert_int_equal(dan_run(x->p, &e), DAN_OK);
    assert_int_equal(dan_run_first(x->p, &cut, &e), DAN_OK);
    assert_memory_equal(losses, dan_result_named(x->p, "row_loss")->data, (size_t)rows * sizeof *losses);
    bind(x, rows, x->weights);
    assert_int_equal(dan_run_rest(x->p, &cut, &e), DAN_OK);
    float *parts = outputs(x, &m);
    assert_int_equal(n, m);
    if (memcmp(whole, parts, n * sizeof *whole)) fail_msg("%s, case %zu, %d rows: other bits in two parts", x->lm.model->name, c, (int)rows);
    dan_free(whole);
    dan_free(parts);
}

static void training_graphs(void **state)
{
    (void)state;
    for (int i = 0; dan_models[i]; i++)
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            struct bench x;
            new_bench(&x, dan_models[i], c, false);
            compare(&x, ROWS, c);
            compare(&x, ROWS - LANES, c);
            free_bench(&x);
        }
}

static void what_cannot(void **state)
{
    struct bench x;
    struct dan_cut cut;
    struct dan_err e = {0};
    (void)state;
    new_bench(&x, dan_model_find("llama"), 0, false);
    assert_int_equal(dan_program_cut(x.p, "weights", "owl", &cut), DAN_EUNSUPPORTED);
    assert_int_equal(dan_program_cut(x.p, "tokens", "row_loss", &cut), DAN_EUNSUPPORTED);
    free_bench(&x);
    new_bench(&x, dan_model_find("llama"), 0, true);
    assert_int_equal(dan_program_cut(x.p, "weights", "row_loss", &cut), DAN_OK);
    assert_int_equal(dan_run_first(x.p, &cut, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "only planned"));
    assert_int_equal(dan_run_rest(x.p, &cut, &e), DAN_EINVAL);
    free_bench(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(training_graphs), cmocka_unit_test(what_cannot)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
