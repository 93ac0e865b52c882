/* gguf/llama.gguf, whose q and k rows lie as llama.cpp wants them, against the logits that transformers computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "exec/exec.h"
#include "io/gguf.h"
#include "model/lm.h"

enum { T = 12, V = 64 };

static void bind(struct dan_program *p, const char *name, const int32_t *v)
{
    struct dan_err e = {0};
    struct dan_tensor x = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(T), (void *)(uintptr_t)v);
    if (dan_bind(p, name, &x, &e)) fail_msg("%s", e.msg);
}

static void open_file(struct dan_lm *lm, struct dan_gguf **g, bool writable)
{
    struct dan_err e = {0};
    char path[512];
    snprintf(path, sizeof path, "%.*s/gguf/llama.gguf", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    if (dan_gguf_open(path, g, &e) || dan_lm_load(lm, path, writable, &e)) fail_msg("%s", e.msg);
}

static void check_logits(const struct dan_gguf *g, const struct dan_tensor *got)
{
    struct dan_gguf_value v;
    double want;
    assert_true(dan_gguf_find(g, "golden.logits", &v) && v.n == T * V);
    for (uint64_t i = 0; i < v.n; i++) {
        assert_true(dan_gguf_number_at(&v, i, &want));
        double x = (double)((const float *)got->data)[i];
        if (!(fabs(x - want) <= 1e-5 * fmax(1, fabs(want)))) fail_msg("logit %d is %.9g, expected %.9g", (int)i, x, want);
    }
}

static void run_once(bool writable)
{
    struct dan_gguf *g;
    struct dan_lm lm;
    struct dan_graph *graph;
    struct dan_program *p;
    struct dan_err e = {0};
    struct dan_gguf_value v;
    int32_t tokens[T], pos[T], start[T] = {0}, stop[T], self[T];
    open_file(&lm, &g, writable);
    assert_true(lm.cfg.hidden == 16 && lm.cfg.layers == 2 && lm.cfg.kv_heads == 2 && lm.cfg.bos == 1 && lm.cfg.eos == 2 && !lm.cfg.tied);
    assert_true(lm.cfg.norm_eps == 1e-5);                      /* not the double of its float */
    struct dan_io io = {.max_rows = T, .logits = true, .max_select = T};
    if (dan_lm_graph(&lm, &io, DAN_PIPELINE_INFER, NULL, &graph, &e) || dan_compile(graph, NULL, &p, &e) || dan_bind_store(p, lm.store, &e))
        fail_msg("%s", e.msg);
    assert_true(dan_gguf_find(g, "golden.tokens", &v) && v.n == T);
    for (int i = 0; i < T; i++) {
        int64_t id;
        assert_true(dan_gguf_int_at(&v, (uint64_t)i, &id));
        tokens[i] = (int32_t)id;
        pos[i] = self[i] = i;
        stop[i] = T;
    }
    const int32_t *const in[] = {tokens, pos, start, stop, self, pos};
    static const char *const names[] = {"tokens", "pos", "start", "stop", "self", "select"};
    for (int i = 0; i < 6; i++) bind(p, names[i], in[i]);
    if (dan_run(p, &e)) fail_msg("%s", e.msg);
    check_logits(g, dan_result_named(p, "logits"));
    dan_program_free(p);
    dan_graph_free(graph);
    dan_lm_release(&lm);
    dan_gguf_close(g);
}

static void logits_as_transformers(void **state)
{
    (void)state;
    run_once(false);
    run_once(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_as_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
