/* The models of gpt2/ and llama/ against what transformers and torch computed: logits, loss, every gradient,
 * ten AdamW steps, greedy text.  See README.md for tolerances and layouts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "exec/exec.h"
#include "infer/sampler.h"
#include "infer/session.h"
#include "io/safetensors.h"
#include "train/optim.h"

enum { B = 2, T = 16, V = 96, N = B * T, STEPS = 10 };
static const double TOLERANCE = 1e-5;                  /* absolute up to 1, relative above */

struct golden { const char *dir; struct dan_lm lm; struct dan_store *values; };

static struct golden open_golden(const char *dir)
{
    struct golden g = {.dir = dir};
    struct dan_err e = {0};
    char path[512], root[400];
    snprintf(root, sizeof root, "%.*s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    snprintf(path, sizeof path, "%s/%s", root, dir);
    if (dan_lm_load(&g.lm, path, true, &e)) fail_msg("%s", e.msg);
    snprintf(path, sizeof path, "%s/%s/golden.safetensors", root, dir);
    if (dan_safetensors_open(path, &g.values, &e)) fail_msg("%s", e.msg);
    return g;
}

static void close_golden(struct golden *g)
{
    dan_store_free(g->values);
    dan_lm_release(&g->lm);
}

static const struct dan_tensor *value(const struct golden *g, const char *name)
{
    const struct dan_tensor *t = dan_store_find(g->values, name);
    if (!t) fail_msg("golden.safetensors of %s has no '%s'", g->dir, name);
    return t;
}

static void near(const struct golden *g, const char *what, int64_t i, double got, double want)
{
    if (!(fabs(got - want) <= TOLERANCE * fmax(1, fabs(want))))
        fail_msg("%s: %s[%d] is %.9g, expected %.9g", g->dir, what, (int)i, got, want);
}

/* --- one program over the B sequences */

struct net {
    struct dan_graph *graph;
    struct dan_program *program;
    int32_t pos[N], start[N], stop[N], self[N], select[N];
    float weights[N];
};

static void bind(struct net *n, const char *name, const struct dan_dtype *t, const void *data)
{
    struct dan_tensor x = dan_tensor_of(t, DAN_SHAPE(N), (void *)data);
    struct dan_err e = {0};
    if (dan_bind(n->program, name, &x, &e)) fail_msg("%s", e.msg);
}

static void open_net(struct net *n, struct golden *g, bool loss, const char *pipeline)
{
    struct dan_io io = {.max_rows = N, .loss = loss, .logits = !loss, .max_select = N};
    struct dan_pass_opts p = {.loss = "loss", .head_ce_min_vocab = 32};
    struct dan_err e = {0};
    if (dan_lm_graph(&g->lm, &io, pipeline, &p, &n->graph, &e) || dan_compile(n->graph, NULL, &n->program, &e) ||
        dan_bind_store(n->program, g->lm.store, &e))
        fail_msg("%s", e.msg);
    for (int i = 0; i < N; i++) {
        n->self[i] = n->select[i] = i;
        n->pos[i] = i % T;
        n->start[i] = i / T * T;
        n->stop[i] = i / T * T + T;
        n->weights[i] = 1.0f / N;
    }
    bind(n, "tokens", &dan_dtype_i32, value(g, "tokens")->data);
    bind(n, "pos", &dan_dtype_i32, n->pos);
    bind(n, "start", &dan_dtype_i32, n->start);
    bind(n, "stop", &dan_dtype_i32, n->stop);
    bind(n, "self", &dan_dtype_i32, n->self);
    if (loss) bind(n, "targets", &dan_dtype_i32, value(g, "targets")->data);
    if (loss) bind(n, "weights", &dan_dtype_f32, n->weights);
    else bind(n, "select", &dan_dtype_i32, n->select);
}

static void run_net(struct net *n)
{
    struct dan_err e = {0};
    if (dan_run(n->program, &e)) fail_msg("%s", e.msg);
}

static void close_net(struct net *n)
{
    dan_program_free(n->program);
    dan_graph_free(n->graph);
}

static void check_logits(struct golden *g)
{
    static const char *const pipelines[] = {DAN_PIPELINE_EVAL, DAN_PIPELINE_INFER, ""};     /* fused first: they move weights */
    const float *want = value(g, "logits")->data;
    for (int p = 0; p < 3; p++) {
        static struct net n;
        open_net(&n, g, false, pipelines[p]);
        run_net(&n);
        const float *got = dan_result_named(n.program, "logits")->data;
        for (int64_t i = 0; i < N * V; i++) near(g, "logits", i, (double)got[i], (double)want[i]);
        close_net(&n);
    }
}

/* Rows [row, row + rows of name) of a joined gradient against grad.HFNAME; returns the rows. */
static int64_t check_gradient(const struct golden *g, const char *name, const struct dan_tensor *got, int64_t row)
{
    char hf[200], key[220];
    bool turn = false;
    if (!dan_lm_hf_name(g->lm.model, name, hf, sizeof hf, &turn)) fail_msg("'%s' has no name in files", name);
    snprintf(key, sizeof key, "grad.%s", hf);
    const struct dan_tensor *want = value(g, key), *w = dan_store_find(g->lm.store, name);
    int64_t rows = w->shape.d[0], cols = w->shape.n > 1 ? w->shape.d[1] : 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            const float *x = want->data;
            near(g, key, i * cols + j, (double)((const float *)got->data)[(row + i) * cols + j],
                 (double)(turn ? x[j * rows + i] : x[i * cols + j]));
        }
    return rows;
}

static int check_gradients(const struct golden *g, const struct net *n)
{
    int count = 0;
    for (int32_t i = 0; i < n->graph->n_out; i++) {
        if (strncmp(n->graph->out_name[i], "grad:", 5)) continue;
        char names[512];
        snprintf(names, sizeof names, "%s", n->graph->out_name[i] + 5);
        int64_t row = 0;
        for (char *name = names, *end; name; name = end ? end + 1 : NULL, count++) {
            end = strchr(name, '+');
            if (end) *end = 0;
            row += check_gradient(g, name, dan_result(n->program, i), row);
        }
    }
    return count;
}

static int gradients_in_file(const struct golden *g)
{
    int n = 0;
    for (size_t i = 0; i < dan_store_count(g->values); i++) n += strncmp(dan_store_name(g->values, i), "grad.", 5) == 0;
    return n;
}

static void check_loss(struct golden *g)
{
    static const char *const pipelines[] = {DAN_PIPELINE_TRAIN, DAN_PIPELINE_TRAIN_REMAT, "autodiff"};
    for (int p = 0; p < 3; p++) {
        static struct net n;
        open_net(&n, g, true, pipelines[p]);
        run_net(&n);
        near(g, "loss", p, (double)*(const float *)dan_result_named(n.program, "loss")->data,
             (double)*(const float *)value(g, "loss")->data);
        assert_int_equal(check_gradients(g, &n), gradients_in_file(g));
        close_net(&n);
    }
}

/* --- ten steps of AdamW with clipping to norm 1 */

static double norm_of_gradients(const struct net *n)
{
    double sum = 0;
    for (int32_t i = 0; i < n->graph->n_out; i++) {
        if (strncmp(n->graph->out_name[i], "grad:", 5)) continue;
        const struct dan_tensor *t = dan_result(n->program, i);
        for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) sum += pow((double)((const float *)t->data)[k], 2);
    }
    return sqrt(sum);
}

static void update(struct golden *g, struct net *n, float *moments, int64_t step)
{
    const struct dan_optim *adamw = dan_optim_find("adamw");
    double factor = fmin(1, 1 / (norm_of_gradients(n) + 1e-6));
    for (int32_t i = 0; i < n->graph->n_out; i++) {
        if (strncmp(n->graph->out_name[i], "grad:", 5)) continue;
        const struct dan_tensor *w = dan_store_find(g->lm.store, n->graph->out_name[i] + 5);
        int64_t count = dan_shape_count(&w->shape);
        struct dan_optim_args a = {.lr = 1e-3,
                                   .beta1 = 0.9,
                                   .beta2 = 0.95,
                                   .eps = 1e-8,
                                   .weight_decay = w->shape.n > 1 ? 0.1 : 0,
                                   .grad_scale = factor,
                                   .step = step};
        float *slots[DAN_MAX_SLOTS] = {moments, moments + count};
        adamw->update(w->data, dan_result(n->program, i)->data, slots, count, &a);
        moments += 2 * count;
    }
}

static void check_training(struct golden *g)
{
    static struct net n;
    const float *want = value(g, "adamw.losses")->data;
    float *moments = dan_calloc((size_t)dan_lm_n_params(&g->lm) * 2, sizeof *moments);
    open_net(&n, g, true, DAN_PIPELINE_TRAIN);
    for (int64_t step = 0; step <= STEPS; step++) {
        run_net(&n);
        near(g, "adamw.losses", step, (double)*(const float *)dan_result_named(n.program, "loss")->data, (double)want[step]);
        if (step < STEPS) update(g, &n, moments, step + 1);
    }
    close_net(&n);
    dan_free(moments);
}

static void check_greedy(struct golden *g)
{
    const struct dan_tensor *prompt = value(g, "greedy.prompt"), *want = value(g, "greedy.ids");
    struct dan_sampling greedy = {.temperature = 0};
    struct dan_session *s;
    struct dan_draw *d;
    struct dan_err e = {0};
    float logits[V];
    if (dan_session_new(&g->lm, &(struct dan_session_opts){.max_rows = 4}, &s, &e) || dan_draw_new(V, &d, &e)) fail_msg("%s", e.msg);
    if (dan_session_feed(s, &(struct dan_feed){0, prompt->data, prompt->shape.d[0], 1, logits}, 1, &e)) fail_msg("%s", e.msg);
    for (int64_t i = 0; i < want->shape.d[0]; i++) {
        int32_t id = dan_draw_token(d, &greedy, logits, NULL, 0, (uint64_t)i);
        assert_int_equal(id, ((const int32_t *)want->data)[i]);
        if (dan_session_feed(s, &(struct dan_feed){0, &id, 1, 1, logits}, 1, &e)) fail_msg("%s", e.msg);
    }
    dan_draw_free(d);
    dan_session_free(s);
}

static void check_all(const char *dir)
{
    struct golden g = open_golden(dir);
    check_logits(&g);
    check_greedy(&g);
    check_loss(&g);
    check_training(&g);
    close_golden(&g);
}

static void test_gpt2(void **state) { (void)state; check_all("gpt2"); }
static void test_llama(void **state) { (void)state; check_all("llama"); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gpt2), cmocka_unit_test(test_llama)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
