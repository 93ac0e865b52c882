/* Passes as text in, text out: tests/pass/NAME.cg holds `; run: cse,dce`, a graph, `; expect:`, a graph.
 * UPDATE=1 rewrites the expected part.  Both graphs then run on the same numbers and must give the same outputs.  Random graphs
 * hold every fusion rule to its exactness class.  Also: print -> parse -> print is the identity on every model's training graph,
 * and structure hashes do not depend on dynamic dims (R7). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "exec/exec.h"
#include "model/lm.h"
#include "op/ops.h"

static const char *folder(void) { return getenv("DANLU_SRC") ? getenv("DANLU_SRC") : "tests/pass"; }

/* Leaves from streams named by them: a joined param takes the rows of its parts. */
static int give_leaves(const struct dan_graph *g, struct dan_store *s, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++) {
        const struct dan_node *n = &g->node[i];
        if (!(n->op->props & DAN_OP_LEAF)) continue;
        rc = dan_store_add(s, n->name, n->dtype, n->shape, e);
        if (rc) break;
        const struct dan_tensor *t = dan_store_find(s, n->name);
        struct dan_rng r = {.seed = 3, .stream = dan_crc32(0, n->name, strlen(n->name))};
        for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) {
            if (t->dtype == &dan_dtype_i32) ((int32_t *)t->data)[k] = (int32_t)dan_rng_below(&r, 4);
            else if (t->dtype == &dan_dtype_f64) ((double *)t->data)[k] = dan_rng_normal(&r);
            else ((float *)t->data)[k] = (float)dan_rng_normal(&r);
        }
    }
    return rc;
}

static struct dan_program *run_on(const char *name, const struct dan_graph *g, struct dan_store *s, bool ref)
{
    struct dan_err e = {0};
    struct dan_program *p = NULL;
    int rc = dan_compile(g, &(struct dan_exec_opts){.ref = ref}, &p, &e);
    if (!rc) rc = dan_bind_store(p, s, &e);
    for (int32_t i = 1; i < g->n && !rc; i++)
        if (dan_op_is(&g->node[i], "input")) rc = dan_bind(p, g->node[i].name, dan_store_find(s, g->node[i].name), &e);
    if (!rc) rc = dan_run(p, &e);
    if (rc) fail_msg("%s: %s", name, e.msg);
    return p;
}

static struct dan_program *run_graph(const char *name, const struct dan_graph *g, struct dan_store *s)
{
    return run_on(name, g, s, true);
}

static double number_at(const struct dan_tensor *t, int64_t r, int64_t c)
{
    return t->dtype == &dan_dtype_f64 ? ((const double *)dan_row(t, r))[c] : (double)((const float *)dan_row(t, r))[c];
}

static void compare(const char *name, const char *output, const struct dan_tensor *x, const struct dan_tensor *y)
{
    assert_non_null(y);
    assert_true(dan_shape_equal(&x->shape, &y->shape));
    double most = 1e-3, tolerance = x->dtype == &dan_dtype_f64 ? 1e-11 : 1e-5;
    for (int64_t r = 0; r < dan_rows(x); r++)
        for (int64_t c = 0; c < dan_cols(x); c++) most = fmax(most, fabs(number_at(x, r, c)));
    for (int64_t r = 0; r < dan_rows(x); r++)
        for (int64_t c = 0; c < dan_cols(x); c++) {
            double a = number_at(x, r, c), b = number_at(y, r, c);
            if (!(fabs(a - b) <= tolerance * most))
                fail_msg("%s: output '%s' [%lld,%lld] was %g, is %g after the passes", name, output, (long long)r, (long long)c, a, b);
        }
}

static void same_numbers(const char *name, const struct dan_graph *before, const struct dan_graph *after)
{
    struct dan_err e = {0};
    struct dan_store *s[2];
    struct dan_program *p[2];
    for (int i = 0; i < 2; i++)
        if (dan_store_new(&s[i], &e) || give_leaves(before, s[i], &e)) fail_msg("%s: %s", name, e.msg);
    p[0] = run_graph(name, before, s[0]);
    p[1] = run_graph(name, after, s[1]);
    for (int32_t i = 0; i < before->n_out; i++)
        compare(name, before->out_name[i], dan_result(p[0], i), dan_result_named(p[1], before->out_name[i]));
    for (int i = 0; i < 2; i++) {
        dan_program_free(p[i]);
        dan_store_free(s[i]);
    }
}

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
    struct dan_graph *g = NULL, *before = NULL;
    if (dan_graph_parse(text, &before, &e) || dan_graph_parse(text, &g, &e) ||
        dan_run_passes(g, pipeline, &(struct dan_pass_opts){.loss = "loss", .head_ce_min_vocab = 4}, &e))
        fail_msg("%s: %s", name, e.msg);
    dan_graph_print(g, &got);
    if (getenv("UPDATE")) {
        dan_str_printf(&file, "%s; expect:\n%s", text, dan_str_c(&got));
        assert_int_equal(dan_write_file(dan_str_c(&path), dan_str_c(&file), file.n, &e), 0);
    } else if (strcmp(dan_str_c(&got), expect + strlen("; expect:\n"))) {
        fail_msg("%s: expected\n%s\ngot\n%s", name, expect + strlen("; expect:\n"), dan_str_c(&got));
    }
    same_numbers(name, before, g);
    dan_graph_free(g);
    dan_graph_free(before);
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
            if (dan_graph_hash(a) != dan_graph_hash(b) || !dan_graph_hash(a))
                fail_msg("%s: the structure depends on the number of rows", dan_models[i]->name);
            dan_graph_free(a);
            dan_graph_free(b);
        }
}

static void bad_text(void **state)
{
    const char *cases[] = {"%1 = nosuch()",
                           "%2 = input \"x\" : f32[2]",
                           "%1 = input \"x\" : f99[2]",
                           "%1 = act(%7) {kind=1}",
                           "hello",
                           "%1 = input \"x\" : f32[2]\n%2 = scan(%1) {carries=0, xs=1, ys=1, reverse=0}",
                           "output \"y\" = %3",
                           "%1 = input \"x",
                           "}"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dan_err e = {0};
        struct dan_graph *g = NULL;
        if (dan_graph_parse(cases[i], &g, &e) == 0) fail_msg("accepted: %s", cases[i]);
        assert_non_null(strstr(e.msg, "line"));
    }
}

/* An op without a gradient between a param and the loss is an error, never a gradient of zero. */
static void no_silent_zero(void **state)
{
    const char *text = "%1 = input \"x\" : f32[4,2]\n%2 = param \"g\" init \"ones\" : f32[2]\n%3 = skip_rms_norm(%1, %1, %2) {eps=1e-05}\n"
                       "%4 = pick(%3) {index=1}\n%5 = sum_all(%4)\noutput \"loss\" = %5\n";
    struct dan_err e = {0};
    struct dan_graph *g;
    (void)state;
    if (dan_graph_parse(text, &g, &e)) fail_msg("%s", e.msg);
    assert_int_equal(dan_run_passes(g, "autodiff", NULL, &e), DAN_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "'skip_rms_norm' has no gradient"));
    dan_graph_free(g);
}

/* Frozen params, params that the loss does not need, and one value used twice. */
static void gradients_of_params(void **state)
{
    const char *text =
        "%1 = param \"a\" init \"ones\" : f32[2]\n%2 = param \"b\" init \"ones\" frozen : f32[2]\n%3 = param \"c\" init \"ones\" : f32[2]\n"
        "%4 = mul(%1, %1)\n%5 = mul(%4, %2)\n%6 = sum_all(%5)\noutput \"loss\" = %6\n";
    struct dan_err e = {0};
    struct dan_graph *g;
    struct dan_store *s;
    (void)state;
    if (dan_graph_parse(text, &g, &e) || dan_run_passes(g, "autodiff,dce", NULL, &e)) fail_msg("%s", e.msg);
    assert_true(dan_output_ref(g, "grad:a") && dan_output_ref(g, "grad:c") && !dan_output_ref(g, "grad:b"));
    if (dan_store_new(&s, &e) || give_leaves(g, s, &e)) fail_msg("%s", e.msg);
    struct dan_program *p = run_graph("gradients", g, s);
    const float *a = dan_store_find(s, "a")->data, *b = dan_store_find(s, "b")->data, *da = dan_result_named(p, "grad:a")->data,
                *dc = dan_result_named(p, "grad:c")->data;
    for (int i = 0; i < 2; i++) assert_true(fabsf(da[i] - 2 * a[i] * b[i]) < 1e-6f && dc[i] == 0);
    dan_program_free(p);
    dan_store_free(s);
    dan_graph_free(g);
}

/* ---- random graphs: every pipeline gives the loss and the gradients of plain autodiff, every rule what its class says */

enum { ROWS = 6, COLS = 8, POOL = 40 };
struct maker { struct dan_builder b; struct dan_rng r; const struct dan_dtype *type; dan_ref pool[POOL], seed; int n, params; };

static dan_ref any(struct maker *m) { return m->pool[m->n - 1 - (int)dan_rng_below(&m->r, m->n < 5 ? (uint32_t)m->n : 5)]; }

static dan_ref weight(struct maker *m, struct dan_shape s)
{
    char name[16];
    bool old = s.n == 2 && s.d[0] == COLS && m->params && dan_rng_below(&m->r, 4) == 0;    /* a tied one */
    snprintf(name, sizeof name, "%c%d", s.n == 1 ? 'v' : s.d[0] == COLS ? 'w' : 'u', old ? 0 : m->params++);
    dan_ref p = dan_param(&m->b, name, m->type, s, "ones");
    m->b.g->node[p].frozen = m->b.g->node[p].frozen || (!old && dan_rng_below(&m->r, 6) == 0);
    return p;
}

static dan_ref halves(struct maker *m, dan_ref x)
{
    dan_ref two = dan_split(&m->b, dan_linear(&m->b, x, weight(m, DAN_SHAPE(2 * COLS, COLS)), 0), 1, (const int64_t[]){COLS, COLS}, 2);
    dan_ref a = dan_pick(&m->b, two, 0), c = dan_pick(&m->b, two, 1);
    return dan_rng_below(&m->r, 2) ? dan_mul(&m->b, dan_silu(&m->b, a), c) : dan_sub(&m->b, dan_tanh(&m->b, c), a);
}

static dan_ref grow(struct maker *m)
{
    struct dan_builder *b = &m->b;
    dan_ref x = any(m), y = any(m);
    switch (dan_rng_below(&m->r, 12)) {
    case 0: case 1: return dan_add(b, x, y);
    case 2: return dan_tanh(b, dan_mul(b, x, y));
    case 3: return dan_act(b, x, (enum dan_act)dan_rng_below(&m->r, DAN_N_ACTS));
    case 4: return dan_rms_norm(b, x, weight(m, DAN_SHAPE(COLS)), 1e-3);
    case 5:
        return dan_layer_norm(b, dan_add(b, x, y), weight(m, DAN_SHAPE(COLS)), dan_rng_below(&m->r, 2) ? weight(m, DAN_SHAPE(COLS)) : 0,
                              1e-3);
    case 6: return dan_linear(b, x, weight(m, DAN_SHAPE(COLS, COLS)), dan_rng_below(&m->r, 2) ? weight(m, DAN_SHAPE(COLS)) : 0);
    case 7: return dan_add(b, y, dan_gelu(b, dan_linear(b, x, weight(m, DAN_SHAPE(COLS, COLS)), 0)));
    case 8: return halves(m, x);
    case 9: return dan_softmax(b, x);
    case 10: return dan_dropout(b, x, m->seed, 0.2);
    default: return dan_concat(b, (const dan_ref[]){dan_slice(b, x, 1, 0, 3), dan_slice(b, y, 1, 3, COLS)}, 2, 1);
    }
}

static struct dan_graph *random_graph(uint64_t seed, const struct dan_dtype *type)
{
    struct maker m = {.r = {.seed = seed}, .type = type};
    struct dan_err e = {0};
    dan_builder_init(&m.b, dan_graph_new());
    m.pool[m.n++] = dan_input(&m.b, "x", type, DAN_SHAPE(ROWS, COLS), 1);
    m.seed = dan_input(&m.b, "seed", &dan_dtype_i32, DAN_SHAPE(2), 0);
    dan_ref targets = dan_input(&m.b, "targets", &dan_dtype_i32, DAN_SHAPE(ROWS), 1),
            weights = dan_input(&m.b, "weights", type, DAN_SHAPE(ROWS), 1);
    int n = 4 + (int)dan_rng_below(&m.r, 24);
    for (int i = 0; i < n; i++) {
        m.b.layer = i / 6;
        dan_ref next = grow(&m);
        m.pool[m.n++] = next;
    }
    m.b.layer = -1;
    dan_ref head = weight(&m, DAN_SHAPE(COLS, COLS)), logits = dan_matmul(&m.b, m.pool[m.n - 1], head, 0, 1);
    dan_output(&m.b, "loss", dan_sum_all(&m.b, dan_mul(&m.b, dan_softmax_ce(&m.b, logits, targets), weights)));
    if (dan_rng_below(&m.r, 3) == 0) dan_output(&m.b, "logits", logits);
    if (dan_rng_below(&m.r, 3) == 0) dan_output(&m.b, "some", any(&m));
    if (dan_builder_check(&m.b, &e)) fail_msg("seed %d: %s", (int)seed, e.msg);
    return m.b.g;
}

/* Output `name` of p, or its rows of the joined gradient. */
static struct dan_tensor find_output(const struct dan_program *p, const struct dan_graph *g, const struct dan_store *s, const char *name)
{
    for (int32_t i = 0; i < g->n_out; i++) {
        struct dan_tensor t = *dan_result(p, i);
        if (strcmp(g->out_name[i], name) == 0) return t;
        const char *part = strchr(g->out_name[i], '+') && strncmp(name, "grad:", 5) == 0 ? g->out_name[i] + 5 : "";
        for (int64_t row = 0; *part;) {
            char one[64];
            size_t n = strcspn(part, "+");
            snprintf(one, sizeof one, "%.*s", (int)n, part);
            const struct dan_tensor *w = dan_store_find(s, one);
            if (strcmp(one, name + 5) == 0) return dan_tensor_of(t.dtype, w->shape, (char *)t.data + row * t.stride[0]);
            row += w->shape.d[0];
            part += n + (part[n] == '+');
        }
    }
    fail_msg("output '%s' is gone", name);
    return (struct dan_tensor){0};
}

static void check_random(uint64_t seed, const char *pipeline, bool backward)
{
    struct dan_err e = {0};
    char what[48];
    struct dan_graph *plain = random_graph(seed, &dan_dtype_f64), *g = random_graph(seed, &dan_dtype_f64);
    struct dan_store *s[2];
    struct dan_pass_opts o = {.loss = "loss", .head_ce_min_vocab = 4};
    snprintf(what, sizeof what, "seed %d, %.20s", (int)seed, pipeline);
    for (int i = 0; i < 2; i++)
        if (dan_store_new(&s[i], &e) || give_leaves(plain, s[i], &e)) fail_msg("%s: %s", what, e.msg);
    if ((backward && dan_run_passes(plain, "autodiff", &o, &e)) || dan_run_passes(g, pipeline, &o, &e)) fail_msg("%s: %s", what, e.msg);
    struct dan_program *a = run_graph(what, plain, s[0]), *b = run_graph(what, g, s[1]);
    for (int32_t i = 0; i < plain->n_out; i++) {
        struct dan_tensor got = find_output(b, g, s[1], plain->out_name[i]);
        compare(what, plain->out_name[i], dan_result(a, i), &got);
    }
    dan_program_free(a);
    dan_program_free(b);
    for (int i = 0; i < 2; i++) dan_store_free(s[i]);
    dan_graph_free(plain);
    dan_graph_free(g);
}

static void random_graphs(void **state)
{
    const char *train[] = {DAN_PIPELINE_TRAIN, DAN_PIPELINE_TRAIN_REMAT, "autodiff,fuse_skip_norm,fuse_bias_act,remat,cse,dce",
                           "autodiff,simplify,fuse_head_ce,cse,fuse_skip_norm,dce"};
    const char *forward[] = {DAN_PIPELINE_EVAL, DAN_PIPELINE_INFER, "fuse_bias_act,fuse_skip_norm,fuse_horizontal,fuse_swiglu,cse,dce"};
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        for (size_t k = 0; k < sizeof train / sizeof *train; k++) check_random(seed, train[k], true);
        for (size_t k = 0; k < sizeof forward / sizeof *forward; k++) check_random(seed, forward[k], false);
    }
}

/* The class of output `name` after these rules: of values, or of gradients when that is worse. */
static enum dan_exactness class_of(const char *fusion, const char *name)
{
    enum dan_exactness worst = 0;
    for (int i = 0; dan_passes[i]; i++) {
        enum dan_exactness c = dan_exactness_of(dan_passes[i], strncmp(name, "grad:", 5) == 0, false);
        if (dan_passes[i]->exact && dan_fusion_on(fusion, dan_passes[i]) && c > worst) worst = c;
    }
    return worst;
}

static void same_bits(const char *what, const char *output, const struct dan_tensor *x, const struct dan_tensor *y)
{
    assert_true(dan_shape_equal(&x->shape, &y->shape));
    for (int64_t r = 0; r < dan_rows(x); r++)
        for (int64_t c = 0; c < dan_cols(x); c++) {
            double a = number_at(x, r, c), b = number_at(y, r, c);
            if (memcmp(&a, &b, sizeof a))
                fail_msg("%s: output '%s' [%lld,%lld] was %.17g, is %.17g: not E0", what, output, (long long)r, (long long)c, a, b);
        }
}

/* The rules of `fusion` against none: f64 on the reference kernels, f32 on the machine's.  */
static void check_class(uint64_t seed, const char *pipeline, const char *fusion, const struct dan_dtype *type)
{
    struct dan_err e = {0};
    char what[80];
    struct dan_graph *g[2];
    struct dan_store *s[2];
    struct dan_program *p[2];
    snprintf(what, sizeof what, "seed %d, %.24s, %.20s, %s", (int)seed, fusion, pipeline, type->name);
    for (int i = 0; i < 2; i++) {
        struct dan_pass_opts o = {.loss = "loss", .head_ce_min_vocab = 4, .fusion = i ? fusion : "off"};
        g[i] = random_graph(seed, type);
        if (dan_store_new(&s[i], &e) || give_leaves(g[i], s[i], &e) || dan_run_passes(g[i], pipeline, &o, &e))
            fail_msg("%s: %s", what, e.msg);
        p[i] = run_on(what, g[i], s[i], type == &dan_dtype_f64);
    }
    for (int32_t i = 0; i < g[0]->n_out; i++) {
        const char *name = g[0]->out_name[i];
        struct dan_tensor got = find_output(p[1], g[1], s[1], name);
        if (class_of(fusion, name) == DAN_E0) same_bits(what, name, dan_result(p[0], i), &got);
        else compare(what, name, dan_result(p[0], i), &got);
    }
    for (int i = 0; i < 2; i++) {
        dan_program_free(p[i]);
        dan_store_free(s[i]);
        dan_graph_free(g[i]);
    }
}

static void random_graphs_by_class(void **state)
{
    const char *pipelines[] = {DAN_PIPELINE_TRAIN, DAN_PIPELINE_TRAIN_REMAT, DAN_PIPELINE_EVAL, DAN_PIPELINE_INFER};
    (void)state;
    for (int i = -1; i < 0 || dan_passes[i]; i++) {
        if (i >= 0 && !dan_passes[i]->exact) continue;
        for (uint64_t seed = 1; seed <= 60; seed++)
            for (size_t k = 0; k < sizeof pipelines / sizeof *pipelines; k++) {
                check_class(seed, pipelines[k], i < 0 ? "on" : dan_passes[i]->name, &dan_dtype_f64);
                check_class(seed, pipelines[k], i < 0 ? "on" : dan_passes[i]->name, &dan_dtype_f32);
            }
    }
}

/* ---- scans ---------------------------------------------------------------------------------- */

#define BODY \
    "body {\n%1 = input \"h\" : f64[2,2]\n%2 = input \"k\" : f64[2,2]\n%3 = input \"x\" : f64[2,2]\n%4 = input \"w\" : f64[2,2]\n%5 = " \
    "input \"v\" : f64[2,2]\n" \
    "%6 = matmul(%1, %4, _, _) {ta=0, tb=1, prec=0, act=0}\n%7 = add(%6, %3)\n%8 = act(%7) {kind=5}\n%9 = mul(%8, %5)\n" \
    "output \"h\" = %8\noutput \"k\" = %2\noutput \"y\" = %9\noutput \"z\" = %3\n}\n"
#define SCAN(reverse, rest) \
    "%1 = param \"x\" : f64[3,2,2]\n%2 = param \"h\" : f64[2,2]\n%3 = param \"w\" : f64[2,2]\n%4 = scan(%2, %2, %1, %3, %3) {carries=2, " \
    "xs=1, ys=2, reverse=" reverse "}\n" BODY rest

static double loss_of(struct dan_program *p)
{
    struct dan_err e = {0};
    if (dan_run(p, &e)) fail_msg("%s", e.msg);
    return *(const double *)dan_result_named(p, "loss")->data;
}

static void check_gradients(const char *text, const char *pipeline)
{
    struct dan_err e = {0};
    struct dan_graph *g;
    struct dan_store *s;
    if (dan_graph_parse(text, &g, &e) || dan_run_passes(g, pipeline, NULL, &e)) fail_msg("%s", e.msg);
    if (dan_store_new(&s, &e) || give_leaves(g, s, &e)) fail_msg("%s", e.msg);
    struct dan_program *p = run_graph("scan", g, s);
    for (size_t i = 0; i < dan_store_count(s); i++) {
        char name[64];
        double *w = dan_store_at(s, i)->data, grad[64];
        int64_t n = dan_shape_count(&dan_store_at(s, i)->shape);
        snprintf(name, sizeof name, "grad:%s", dan_store_name(s, i));
        loss_of(p);
        memcpy(grad, dan_result_named(p, name)->data, sizeof *grad * (size_t)n);
        for (int64_t k = 0; k < n; k++) {
            double keep = w[k], h = 1e-5;
            w[k] = keep + h;
            double up = loss_of(p);
            w[k] = keep - h;
            double down = loss_of(p);
            w[k] = keep;
            if (fabs((up - down) / (2 * h) - grad[k]) > 1e-7)
                fail_msg("%s[%lld]: %g by differences, %g by autodiff in\n%s", name, (long long)k, (up - down) / (2 * h), grad[k], text);
        }
    }
    dan_program_free(p);
    dan_store_free(s);
    dan_graph_free(g);
}

/* A carry that nobody reads, one that passes through, results that nobody reads, one param as two constants and as two
 * carries; the loss from a result, from the last row of a history, from all of them. */
static void gradients_of_scans(void **state)
{
    const char *cases[] = {
        SCAN("0", "%5 = pick(%4) {index=2}\n%6 = sum_all(%5)\noutput \"loss\" = %6\n"),
        SCAN("1", "%5 = pick(%4) {index=2}\n%6 = mul(%5, %5)\n%7 = sum_all(%6)\noutput \"loss\" = %7\n"),
        SCAN("0", "%5 = pick(%4) {index=0}\n%6 = slice(%5) {axis=0, start=-1, stop=end}\n%7 = sum_all(%6)\noutput \"loss\" = %7\n"),
        SCAN("1", "%5 = pick(%4) {index=0}\n%6 = mul(%5, %5)\n%7 = sum_all(%6)\n%8 = pick(%4) {index=1}\n%9 = sum_all(%8)\n%10 = pick(%4) "
                  "{index=3}\n%11 = mul(%10, %10)\n"
                  "%12 = sum_all(%11)\n%13 = add(%7, %9)\n%14 = add(%13, %12)\noutput \"loss\" = %14\n"),
        SCAN("0", "%5 = pick(%4) {index=3}\n%6 = sum_all(%5)\noutput \"loss\" = %6\n"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_gradients(cases[i], "autodiff,simplify,cse,dce");
        check_gradients(cases[i], "autodiff,simplify,cse,hoist_scan,fuse_bias_act,fuse_chain,place_concat,dce");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs), cmocka_unit_test(random_graphs_by_class),
                                       cmocka_unit_test(gradients_of_scans),
                                       cmocka_unit_test(no_silent_zero),
                                       cmocka_unit_test(gradients_of_params),
                                       cmocka_unit_test(texts),
                                       cmocka_unit_test(round_trip),
                                       cmocka_unit_test(hash_without_dynamic_dims),
                                       cmocka_unit_test(bad_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
