/* Passes as text in, text out: tests/pass/NAME.cg holds `; run: cse,dce`, a graph, `; expect:`, a graph.
 * UPDATE=1 rewrites the expected part.  Also: print -> parse -> print is the identity on every model's
 * training graph, and structure hashes do not depend on dynamic dims (R7). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/lm.h"
#include "op/ops.h"

static const char *folder(void) { return getenv("DANLU_SRC") ? getenv("DANLU_SRC") : "tests/pass"; }

static void check_case(const char *name)
{
    struct dan_err e = {0};
    struct dan_str path = {0}, got = {0}, file = {0};
    char *text, pipeline[200];
    size_t n;
    dan_str_printf(&path, "%s/%s", folder(), name);
    if (dan_read_file(dan_str_c(&path), &text, &n, &e)) fail_msg("%s", e.msg);
    char *expect = strstr(text, "; expect:\n");
    if (sscanf(text, "; run: %199[^\n]", pipeline) != 1 || !expect) fail_msg("%s: no '; run:' or '; expect:'", name);
    *expect = 0;
    struct dan_graph *g = NULL;
    if (dan_graph_parse(text, &g, &e) || dan_run_passes(g, pipeline, &(struct dan_pass_opts){.loss = "loss", .head_ce_min_vocab = 4}, &e)) fail_msg("%s: %s", name, e.msg);
    dan_graph_print(g, &got);
    if (getenv("UPDATE")) {
        dan_str_printf(&file, "%s; expect:\n%s", text, dan_str_c(&got));
        assert_int_equal(dan_write_file(dan_str_c(&path), dan_str_c(&file), file.n, &e), 0);
    } else if (strcmp(dan_str_c(&got), expect + strlen("; expect:\n"))) {
        fail_msg("%s: expected\n%s\ngot\n%s", name, expect + strlen("; expect:\n"), dan_str_c(&got));
    }
    dan_graph_free(g);
    dan_free(text);
    dan_str_release(&path);
    dan_str_release(&got);
    dan_str_release(&file);
}

static void texts(void **state)
{
    char **names;
    size_t n, seen = 0;
    struct dan_err e = {0};
    (void)state;
    if (dan_list_dir(folder(), &names, &n, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < n; i++)
        if (dan_str_ends(names[i], ".cg")) {
            check_case(names[i]);
            seen++;
        }
    dan_free_list(names, n);
    assert_true(seen > 0);
}

static struct dan_graph *model_graph(const struct dan_model *m, int64_t rows, const char *pipeline)
{
    struct dan_err e = {0};
    struct dan_lm lm = {.model = m, .cfg = {.vocab = 40, .context = 16, .hidden = 32, .layers = 2, .heads = 4, .tied = true, .bias = true}};
    struct dan_io io = {.max_rows = rows, .lanes = m->time_major ? 2 : 0, .loss = true, .dropout = 0.1};
    struct dan_graph *g;
    assert_int_equal(m->complete(&lm.cfg, &e), 0);
    if (dan_lm_graph(&lm, &io, pipeline, &(struct dan_pass_opts){.head_ce_min_vocab = 8}, &g, &e)) fail_msg("%s: %s", m->name, e.msg);
    return g;
}

static void round_trip(void **state)
{
    (void)state;
    for (int i = 0; dan_models[i]; i++) {
        struct dan_graph *g = model_graph(dan_models[i], 16, DAN_PIPELINE_TRAIN), *back;
        struct dan_str a = {0}, b = {0};
        struct dan_err e = {0};
        dan_graph_print(g, &a);
        if (dan_graph_parse(dan_str_c(&a), &back, &e)) fail_msg("%s: %s", dan_models[i]->name, e.msg);
        dan_graph_print(back, &b);
        for (char *p = a.p; (p = strstr(p, "  # "));) memset(p, ' ', strcspn(p, "\n"));       /* places are not read back */
        char *x = a.p, *y = b.p;
        while (*x || *y) {
            size_t nx = strcspn(x, "\n"), ny = strcspn(y, "\n"), tx = nx;
            while (tx && x[tx - 1] == ' ') tx--;
            if (tx != ny || memcmp(x, y, ny)) fail_msg("%s: '%.*s' became '%.*s'", dan_models[i]->name, (int)nx, x, (int)ny, y);
            x += nx + (x[nx] == '\n');
            y += ny + (y[ny] == '\n');
        }
        dan_str_release(&a);
        dan_str_release(&b);
        dan_graph_free(g);
        dan_graph_free(back);
    }
}

static void hash_without_dynamic_dims(void **state)
{
    const char *pipelines[] = {DAN_PIPELINE_TRAIN, DAN_PIPELINE_TRAIN_REMAT, DAN_PIPELINE_EVAL};
    (void)state;
    for (int i = 0; dan_models[i]; i++)
        for (int k = 0; k < 3; k++) {
            struct dan_graph *a = model_graph(dan_models[i], 16, pipelines[k]), *b = model_graph(dan_models[i], 8, pipelines[k]);
            if (dan_graph_hash(a) != dan_graph_hash(b) || !dan_graph_hash(a)) fail_msg("%s: the structure depends on the number of rows", dan_models[i]->name);
            dan_graph_free(a);
            dan_graph_free(b);
        }
}

static void bad_text(void **state)
{
    const char *cases[] = {"%1 = nosuch()", "%2 = input \"x\" : f32[2]", "%1 = input \"x\" : f99[2]", "%1 = act(%7) {kind=1}", "hello",
                           "%1 = input \"x\" : f32[2]\n%2 = scan(%1) {carries=0, xs=1, ys=1, reverse=0}", "output \"y\" = %3", "%1 = input \"x", "}"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dan_err e = {0};
        struct dan_graph *g = NULL;
        if (dan_graph_parse(cases[i], &g, &e) == 0) fail_msg("accepted: %s", cases[i]);
        assert_non_null(strstr(e.msg, "line"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(round_trip), cmocka_unit_test(hash_without_dynamic_dims), cmocka_unit_test(bad_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
