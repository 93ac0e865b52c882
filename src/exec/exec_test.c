/* The executor: memory that is reused is never memory that is read again, rows may shrink and grow, a run touches the
 * heap not once (R8), and a heap that fails at any call gives an error and no leak. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/count_allocs.h"
#include "base/mem.h"
#include "exec/exec.h"
#include "exec/program.h"
#include "model/lm.h"
#include "op/ops.h"

enum { N = 6, C = 5 };

struct bench { struct dan_graph *g; struct dan_builder b; struct dan_program *p; };

static struct bench bench_new(void)
{
    struct bench x = {.g = dan_graph_new()};
    return x;
}

static void compile(struct bench *x, const struct dan_exec_opts *o)
{
    struct dan_err e = {0};
    if (dan_builder_check(&x->b, &e) || dan_graph_verify(x->g, &e) || dan_compile(x->g, o, &x->p, &e)) fail_msg("%s", e.msg);
}

static void bind(struct bench *x, const char *name, const struct dan_dtype *t, struct dan_shape s, void *data)
{
    struct dan_err e = {0};
    struct dan_tensor v = dan_tensor_of(t, s, data);
    if (dan_bind(x->p, name, &v, &e)) fail_msg("%s", e.msg);
}

static const float *run(struct bench *x, const char *output)
{
    struct dan_err e = {0};
    if (dan_run(x->p, &e)) fail_msg("%s", e.msg);
    return dan_result_named(x->p, output)->data;
}

static void bench_free(struct bench *x)
{
    dan_program_free(x->p);
    dan_graph_free(x->g);
}

static void ramp(float *v, int n, float by)
{
    for (int i = 0; i < n; i++) v[i] = by * (float)(i % 7 - 3) + 0.25f;
}

/* Everything that could be overwritten too early: a value read again after its view, twice by one op, as output. */
static void reuse(void **state)
{
    float a[N * C], want[N * C], twice[N * C];
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_ref in = dan_input(&x.b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1);
    dan_ref y = dan_scale(&x.b, in, 2), top = dan_slice(&x.b, y, 1, 0, 2);             /* y may not be written over: `top` shows it */
    dan_ref z = dan_exp(&x.b, y), sq = dan_mul(&x.b, z, z), again = dan_add(&x.b, sq, z);
    dan_ref parts = dan_split(&x.b, again, 1, (const int64_t[]){2, 3}, 2), left = dan_tanh(&x.b, dan_pick(&x.b, parts, 0));
    dan_output(&x.b, "left", left);
    dan_output(&x.b, "again", again);                                                 /* an output that a later op reads */
    dan_output(&x.b, "input", in);                                                    /* a leaf */
    dan_output(&x.b, "sum", dan_add(&x.b, left, top));
    compile(&x, NULL);
    ramp(a, N * C, 0.3f);
    bind(&x, "x", &dan_dtype_f32, DAN_SHAPE(N, C), a);
    for (int k = 0; k < 2; k++) {
        const float *got = run(&x, "again"), *sum = dan_result_named(x.p, "sum")->data;
        for (int i = 0; i < N * C; i++) {
            twice[i] = 2 * a[i];
            want[i] = expf(twice[i]) * expf(twice[i]) + expf(twice[i]);
            assert_true(fabsf(got[i] - want[i]) < 1e-4f * want[i]);
        }
        for (int i = 0; i < N * 2; i++) assert_true(fabsf(sum[i] - tanhf(want[i / 2 * C + i % 2]) - twice[i / 2 * C + i % 2]) < 1e-4f);
        assert_ptr_equal(dan_result_named(x.p, "input")->data, a);
    }
    bench_free(&x);
}

/* scatter_add writes over its base, unless the base is also what it adds. */
static void not_over_what_it_reads(void **state)
{
    float a[3 * 2] = {1, 2, 3, 4, 5, 6};
    int32_t ids[3] = {1, 2, 0};
    const float want[] = {2 + 10, 4 + 12, 6 + 2, 8 + 4, 10 + 6, 12 + 8};
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_ref in = dan_input(&x.b, "x", &dan_dtype_f32, DAN_SHAPE(3, 2), 0), at = dan_input(&x.b, "ids", &dan_dtype_i32, DAN_SHAPE(3), 0);
    dan_ref y = dan_scale(&x.b, in, 2);
    dan_output(&x.b, "y", dan_scatter_add(&x.b, y, y, at));
    compile(&x, NULL);
    bind(&x, "x", &dan_dtype_f32, DAN_SHAPE(3, 2), a);
    bind(&x, "ids", &dan_dtype_i32, DAN_SHAPE(3), ids);
    const float *y_got = run(&x, "y");
    for (int i = 0; i < 6; i++) assert_true(y_got[i] == want[i]);
    bench_free(&x);
}

static void rows_shrink_and_grow(void **state)
{
    const int64_t rows[] = {N, 1, 0, 3, N, 0, N};
    float a[N * C], first[N];
    struct dan_err e = {0};
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_ref in = dan_input(&x.b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1);
    dan_output(&x.b, "y", dan_sum(&x.b, dan_softmax(&x.b, dan_mul(&x.b, in, dan_exp(&x.b, in))), 1));
    dan_output(&x.b, "z", dan_sum(&x.b, dan_act(&x.b, in, DAN_ACT_GELU), 1));
    compile(&x, NULL);
    ramp(a, N * C, 0.3f);
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        bind(&x, "x", &dan_dtype_f32, DAN_SHAPE(rows[k], C), a);
        const float *z = run(&x, "z");
        assert_true(dan_result_named(x.p, "z")->shape.d[0] == rows[k]);
        if (k == 0) memcpy(first, z, sizeof first);
        assert_memory_equal(z, first, sizeof *first * (size_t)rows[k]);
    }
    assert_true(dan_program_infers(x.p) == 6);
    struct dan_tensor wide = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(N + 1, C), a),
                      ints = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(N, C), a);
    assert_int_equal(dan_bind(x.p, "x", &wide, &e), DAN_ESHAPE);
    assert_non_null(strstr(e.msg, "or fewer rows"));
    assert_int_equal(dan_bind(x.p, "x", &ints, NULL), DAN_ESHAPE);
    assert_int_equal(dan_bind(x.p, "nobody", &wide, NULL), DAN_EINVAL);
    run(&x, "z");                              /* refused binds change nothing */
    bench_free(&x);
}

static void states_are_ordered(void **state)
{
    float cache[4 * 2] = {0}, rows[2] = {1, 2};
    int32_t slot[1] = {2};
    struct dan_err e = {0};
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_ref s = dan_state(&x.b, "cache", &dan_dtype_f32, DAN_SHAPE(4, 2)), view = dan_slice(&x.b, s, 0, 0, 2);
    dan_ref r = dan_input(&x.b, "rows", &dan_dtype_f32, DAN_SHAPE(1, 2), 0), at = dan_input(&x.b, "slot", &dan_dtype_i32, DAN_SHAPE(1), 0);
    dan_ref before = dan_sum_all(&x.b, s), after = dan_sum_all(&x.b, dan_kv_write(&x.b, s, r, at));
    dan_output(&x.b, "before", before);
    dan_output(&x.b, "after", after);
    compile(&x, NULL);
    bind(&x, "cache", &dan_dtype_f32, DAN_SHAPE(4, 2), cache);
    bind(&x, "rows", &dan_dtype_f32, DAN_SHAPE(1, 2), rows);
    bind(&x, "slot", &dan_dtype_i32, DAN_SHAPE(1), slot);
    assert_true(run(&x, "before")[0] == 0 && *(const float *)dan_result_named(x.p, "after")->data == 3);
    assert_true(run(&x, "before")[0] == 3 && cache[2 * 2 + 1] == 2);
    dan_output(&x.b, "late", dan_sum_all(&x.b, view));                                /* a view of the old version, read after the write */
    assert_int_equal(dan_graph_verify(x.g, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "overwritten"));
    bench_free(&x);
}

static void unbound_and_planned(void **state)
{
    struct dan_err e = {0};
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_output(&x.b, "y", dan_exp(&x.b, dan_input(&x.b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1)));
    compile(&x, NULL);
    assert_int_equal(dan_run(x.p, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'x' is not bound"));
    dan_program_free(x.p);
    compile(&x, &(struct dan_exec_opts){.plan_only = true, .plan_threads = 3});
    assert_true(dan_program_bytes(x.p) >= N * C * sizeof(float));
    assert_int_equal(dan_run(x.p, NULL), DAN_EINVAL);
    bench_free(&x);
}

/* Joined weights: of one type and row length, and never pulled from under a program. */
static void joined_store(void **state)
{
    struct dan_err e = {0};
    struct dan_store *s;
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_ref in = dan_input(&x.b, "x", &dan_dtype_f32, DAN_SHAPE(1, C), 0);
    dan_output(&x.b, "y", dan_linear(&x.b, in, dan_param(&x.b, "a+b", &dan_dtype_f32, DAN_SHAPE(3, C), "zeros"), 0));
    compile(&x, NULL);
    assert_int_equal(dan_store_new(&s, &e), 0);
    assert_int_equal(dan_store_add(s, "a", &dan_dtype_f32, DAN_SHAPE(1, C), &e), 0);
    assert_int_equal(dan_store_add(s, "b", &dan_dtype_f32, DAN_SHAPE(2, 10 * C), &e), 0);
    assert_int_equal(dan_bind_store(x.p, s, &e), DAN_ESHAPE);
    assert_non_null(strstr(e.msg, "'b'"));
    assert_int_equal(dan_store_put(s, "b", *dan_store_find(s, "b"), NULL, NULL), 0);
    dan_store_free(s);
    e = (struct dan_err){0};
    assert_int_equal(dan_store_new(&s, &e), 0);
    assert_int_equal(dan_store_add(s, "a", &dan_dtype_f32, DAN_SHAPE(1, C), &e), 0);
    assert_int_equal(dan_store_add(s, "b", &dan_dtype_f32, DAN_SHAPE(2, C), &e), 0);
    if (dan_bind_store(x.p, s, &e)) fail_msg("%s", e.msg);
    assert_true(dan_store_bound(s, "a", false) && dan_store_bound(s, "b", false));
    dan_store_free(s);
    bench_free(&x);
}

struct seen { int calls, parts; dan_ref last; bool named; };

static void on_node(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out)
{
    struct seen *s = ctx;
    s->calls++;
    s->parts += g->node[r].n_out > 1;
    s->named = s->named && *kernel && out->data && r >= s->last;
    s->last = r;
}

static void trace_and_profile(void **state)
{
    float a[N * C], gamma[C] = {1, 1, 1, 1, 1};
    struct seen s = {.named = true};
    struct dan_profile_row rows[8];
    (void)state;
    struct bench x = bench_new();
    dan_builder_init(&x.b, x.g);
    dan_ref in = dan_input(&x.b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), 1), g = dan_input(&x.b, "gamma", &dan_dtype_f32, DAN_SHAPE(C), 0);
    dan_ref both = dan_skip_rms_norm(&x.b, in, dan_exp(&x.b, in), g, 1e-5);
    dan_output(&x.b, "y", dan_pick(&x.b, both, 1));
    compile(&x, &(struct dan_exec_opts){.profile = true, .ref = true, .trace = on_node, .trace_ctx = &s});
    ramp(a, N * C, 1);
    bind(&x, "x", &dan_dtype_f32, DAN_SHAPE(N, C), a);
    bind(&x, "gamma", &dan_dtype_f32, DAN_SHAPE(C), gamma);
    run(&x, "y");
    assert_true(s.calls == 3 && s.parts == 2 && s.named);              /* exp; both parts of the norm; no leaf, no pick */
    run(&x, "y");
    assert_true(dan_program_profile(x.p, rows, 8) == 2 && dan_program_profile(x.p, rows, 1) == 2);
    assert_true(rows[0].runs == 2 && rows[1].runs == 2 && rows[1].seconds >= 0 && strcmp(rows[1].kernel, "ref") == 0);
    bench_free(&x);
}

/* ---- the plan ------------------------------------------------------------------------------ */

/* Follows a run without running it: every line of the planned memory knows which value was written there last, and
 * whoever reads a value must find it. */
struct walk { const struct dan_program *p; int32_t *line, *value; const char *what; };

static size_t extent(const struct dan_tensor *t)
{
    size_t n = dan_dtype_bytes(t->dtype, dan_cols(t));
    for (int i = 0; i + 1 < t->shape.n; i++) n += (size_t)((t->shape.d[i] - 1) * t->stride[i]);
    return dan_shape_count(&t->shape) ? n : 0;
}

static bool planned(const struct walk *w, const struct dan_tensor *t)
{
    return (char *)t->data >= w->p->memory && (char *)t->data < w->p->memory + w->p->memory_bytes;
}

static void write_lines(struct walk *w, const void *data, size_t bytes, int32_t value)
{
    size_t at = (size_t)((const char *)data - w->p->memory);
    assert_true(at + bytes <= w->p->memory_bytes);
    for (size_t i = at / 64; bytes && i <= (at + bytes - 1) / 64; i++) w->line[i] = value;
}

static void expect_lines(const struct walk *w, const struct dan_tensor *t, int32_t value, dan_ref node)
{
    if (!planned(w, t)) return;
    size_t at = (size_t)((const char *)t->data - w->p->memory), bytes = extent(t);
    for (size_t i = at / 64; bytes && i <= (at + bytes - 1) / 64; i++)
        if (w->line[i] != value)
            fail_msg("%s: node %%%d '%s' reads unit %d, but unit %d lies there", w->what, node, w->p->g.node[node].op->name, value - 1,
                     w->line[i] - 1);
}

static void name_values(struct walk *w)
{
    const struct dan_program *p = w->p;
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *n = &p->g.node[i];
        for (int32_t k = 0; k < n->n_out; k++) {
            int32_t u = p->first_unit[i] + k;
            if (dan_op_is(n, "pick")) w->value[u] = w->value[p->first_unit[n->in[0]] + n->attr[DAN_PICK_INDEX].i];
            else if (n->op->props & DAN_OP_VIEW) w->value[u] = w->value[p->first_unit[n->in[0]]];
            else if (p->unit[u].kind == UNIT_PLACED) w->value[u] = p->unit[u].root + 1;    /* lines are shared with its neighbours */
            else w->value[u] = u + 1;
        }
    }
}

static void walk_step(struct walk *w, const struct step *s)
{
    const struct dan_node *n = &w->p->g.node[s->node];
    int n_read = n->n_in - !!(n->op->props & DAN_OP_LIKE);
    for (int k = 0; k < n_read; k++)
        if (s->in_unit[k] >= 0) expect_lines(w, &s->in[k], w->value[s->in_unit[k]], s->node);
    for (int k = 0; k < n->n_out; k++)
        if (planned(w, &s->out[k])) write_lines(w, s->out[k].data, extent(&s->out[k]), w->value[s->out_unit + k]);
    if (s->ws_unit >= 0) write_lines(w, s->args.ws, w->p->unit[s->ws_unit].bytes, -1);
    for (int k = 0; k < n->n_out; k++) expect_lines(w, &s->out[k], w->value[s->out_unit + k], s->node);
    for (int k = 0; k < n_read; k++) {         /* still whole when the last row is computed, or written over in place */
        bool over = n->op->props & DAN_OP_INPLACE && n->in[k] == n->in[0] && s->in[k].data == s->out[0].data;
        if (s->in_unit[k] >= 0 && !over) expect_lines(w, &s->in[k], w->value[s->in_unit[k]], s->node);
    }
}

static void check_plan(struct dan_program *p, const char *what)
{
    struct walk w = {p, dan_calloc(p->memory_bytes / 64 + 2, sizeof *w.line), dan_calloc((size_t)p->n_units + 1, sizeof *w.value), what};
    dan_program_refresh(p);
    name_values(&w);
    for (int32_t i = 0; i < p->n_steps; i++) {
        walk_step(&w, &p->step[i]);
        if (p->step[i].body) check_plan(p->step[i].body, what);
    }
    for (int32_t i = 0; i < p->g.n_out; i++) expect_lines(&w, dan_result(p, i), w.value[p->first_unit[p->g.out[i]]], p->g.out[i]);
    dan_free(w.line);
    dan_free(w.value);
}

static const struct dan_lm_config config = {.vocab = 19, .context = 8, .hidden = 16, .layers = 2, .heads = 2, .tied = true, .bias = true};

static void plans_of_models(void **state)
{
    const char *pipelines[] = {
        "", "autodiff", DAN_PIPELINE_TRAIN, DAN_PIPELINE_TRAIN_REMAT, DAN_PIPELINE_EVAL, DAN_PIPELINE_INFER, "autodiff,mixed,dce"};
    struct dan_err e = {0};
    (void)state;
    for (int i = 0; dan_models[i]; i++)
        for (size_t k = 0; k < 2 * sizeof pipelines / sizeof *pipelines; k++) {
            struct dan_lm lm = {.model = dan_models[i], .cfg = config};
            bool decode = strcmp(pipelines[k / 2], DAN_PIPELINE_INFER) == 0;
            struct dan_io io = {.max_rows = 8,
                                .lanes = dan_models[i]->time_major ? 2 : 0,
                                .loss = !decode,
                                .logits = decode,
                                .max_select = 2,
                                .cache_rows = decode ? 16 : 0,
                                .dropout = decode ? 0 : 0.1};
            struct dan_pass_opts o = {.loss = "loss", .head_ce_min_vocab = k % 2 ? 8 : 1000, .prec = k % 2 ? DAN_PREC_BF16 : DAN_PREC_F32};
            struct dan_graph *g = NULL;
            struct dan_program *p = NULL;
            if (lm.model->complete(&lm.cfg, &e) || dan_lm_graph(&lm, &io, pipelines[k / 2], &o, &g, &e) ||
                dan_compile(g, &(struct dan_exec_opts){.ref = k % 2}, &p, &e))
                fail_msg("%s: %s", lm.model->name, e.msg);
            check_plan(p, lm.model->name);
            for (int32_t r = 1; r < p->g.n; r++)           /* the same plan with fewer rows */
                if (dan_op_is(&p->g.node[r], "input") && p->g.node[r].attr[DAN_INPUT_DYNAMIC].i)
                    p->unit[p->first_unit[r]].t.shape.d[0] = p->g.node[r].shape.d[0] = p->g.node[r].attr[DAN_INPUT_DYNAMIC].i;
            if (dan_graph_infer(&p->g, &e)) fail_msg("%s: %s", lm.model->name, e.msg);
            check_plan(p, lm.model->name);
            dan_program_free(p);
            dan_graph_free(g);
        }
}

/* ---- the heap ------------------------------------------------------------------------------- */

struct arrays { int32_t i[7][8]; float w[8]; };

static int bind_model(struct dan_program *p, struct arrays *a, int64_t rows, bool time_major, struct dan_err *e)
{
    const char *packed[] = {"tokens", "targets", "pos", "start", "stop", "self"}, *timed[] = {"tokens", "targets", "reset"};
    int n = time_major ? 3 : 6, rc = 0;
    for (int k = 0; k < n && !rc; k++) {
        struct dan_tensor t = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(rows), a->i[k]);
        rc = dan_bind(p, time_major ? timed[k] : packed[k], &t, e);
    }
    struct dan_tensor w = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(rows), a->w);
    return rc ? rc : dan_bind(p, "weights", &w, e);
}

static void fill_arrays(struct arrays *a)
{
    *a = (struct arrays){0};
    for (int i = 0; i < 8; i++) {
        a->i[0][i] = i;
        a->i[1][i] = i + 1;
        a->i[2][i] = a->i[5][i] = i;
        a->i[4][i] = 8;
        a->w[i] = 0.125f;
    }
    for (int i = 0; i < 2; i++) a->i[3][i] = 0;
}

/* Weights, the training graph, its passes, a program, a run with fewer rows and one with all. */
static int whole_life(const struct dan_model *m, struct arrays *a, int64_t *calls_of_runs, struct dan_err *e)
{
    struct dan_lm lm = {0};
    struct dan_graph *g = NULL;
    struct dan_program *p = NULL;
    struct dan_io io = {.max_rows = 8, .lanes = m->time_major ? 2 : 0, .loss = true};
    struct dan_pass_opts o = {.loss = "loss", .head_ce_min_vocab = 8};
    int rc = dan_lm_init(&lm, m, &config, 1, e);
    if (!rc) rc = dan_lm_graph(&lm, &io, DAN_PIPELINE_TRAIN_REMAT, &o, &g, e);
    if (!rc) rc = dan_compile(g, NULL, &p, e);
    if (!rc) rc = dan_bind_store(p, lm.store, e);
    if (!rc) rc = bind_model(p, a, 8, m->time_major, e);
    if (!rc) rc = dan_run(p, e);
    int64_t before = heap_calls;
    for (int64_t rows = 2; rows <= 8 && !rc; rows += 2) {
        rc = bind_model(p, a, rows, m->time_major, e);
        if (!rc) rc = dan_run(p, e);
    }
    *calls_of_runs = heap_calls - before;
    dan_program_free(p);
    dan_graph_free(g);
    dan_lm_release(&lm);
    return rc;
}

static void runs_leave_the_heap_alone(void **state)
{
    struct arrays a;
    (void)state;
    if (!count_allocs) skip();
    fill_arrays(&a);
    for (int i = 0; dan_models[i]; i++) {
        struct dan_err e = {0};
        int64_t calls = -1;
        if (whole_life(dan_models[i], &a, &calls, &e)) fail_msg("%s: %s", dan_models[i]->name, e.msg);
        assert_int_equal(calls, 0);
    }
}

/* The n-th call of the heap fails, for every n: an error that says so, and nothing left behind. */
static void any_allocation_may_fail(void **state)
{
    struct arrays a;
    (void)state;
    if (!count_allocs) skip();
    fill_arrays(&a);
    for (int i = 0; dan_models[i]; i++) {
        struct dan_err e = {0};
        int64_t unused, start, live;
        assert_int_equal(whole_life(dan_models[i], &a, &unused, &e), 0);       /* what the C library takes once */
        start = heap_calls;
        live = heap_live;
        assert_int_equal(whole_life(dan_models[i], &a, &unused, &e), 0);
        int64_t n = heap_calls - start, survived = 0;
        assert_true(n > 20 && heap_live == live);
        for (int64_t k = 1; k <= n; k++) {
            e = (struct dan_err){0};
            live = heap_live;
            heap_fail_at = heap_calls + k;
            int rc = whole_life(dan_models[i], &a, &unused, &e);
            heap_fail_at = 0;
            survived += rc == DAN_OK;          /* qsort sorts in place when it gets no buffer */
            if (survived > 1 || rc != e.code || (rc && rc != DAN_ENOMEM))
                fail_msg("%s: allocation %lld of %lld failed, and the result is %d: %s", dan_models[i]->name, (long long)k, (long long)n,
                         rc, e.msg);
            if (heap_live != live)
                fail_msg("%s: allocation %lld of %lld failed, and %lld blocks are lost: %s", dan_models[i]->name, (long long)k,
                         (long long)n, (long long)(heap_live - live), e.msg);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reuse),
                                       cmocka_unit_test(not_over_what_it_reads),
                                       cmocka_unit_test(rows_shrink_and_grow),
                                       cmocka_unit_test(states_are_ordered),
                                       cmocka_unit_test(unbound_and_planned),
                                       cmocka_unit_test(joined_store),
                                       cmocka_unit_test(trace_and_profile),
                                       cmocka_unit_test(plans_of_models),
                                       cmocka_unit_test(runs_leave_the_heap_alone),
                                       cmocka_unit_test(any_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
