/* arch/: every decoder family and every scaling of rotary positions against transformers, over 40 tokens, which is beyond the
 * windows and the original contexts: logits and gradients, fused and not; with a cache, whole and token by token, the same
 * bits; written and read again, the same bits.  Weights come from the names of tensors (make_arch_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "exec/exec.h"
#include "infer/session.h"
#include "io/safetensors.h"
#include "op/attrs.h"

enum { T = 40, V = 48 };
static const double TOLERANCE = 1e-5, GRADIENT = 1e-4;         /* of the largest value; of a gradient's norm */
static const char *const cases[] = {"llama_bias", "llama_linear", "llama_dynamic", "llama_yarn", "llama_yarn_mscale", "llama_yarn_smooth",
                                    "llama_llama3", "mistral", "qwen2", "qwen2_yarn", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "phi3_partial"};
enum { N_CASES = sizeof cases / sizeof *cases };

struct golden { const char *name; char dir[300], tmp[300]; struct dan_lm lm; struct dan_store *values; };

static const struct dan_tensor *value(const struct golden *g, const char *name)
{
    const struct dan_tensor *t = dan_store_find(g->values, name);
    if (!t) fail_msg("%s: golden.safetensors has no '%s'", g->name, name);
    return t;
}

/* --- weights: as make_arch_golden.py's `uniform` and `weight` */

static float uniform(uint32_t h, uint64_t i)
{
    uint32_t x = (uint32_t)(i * 2654435761u + h);
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    x ^= x >> 16;
    return (float)(x >> 8) / (float)(1 << 23) - 1;
}

static uint32_t hash(const char *prefix, const char *name)
{
    uint32_t h = 2166136261u;
    for (; *prefix; prefix++) h = (h ^ (uint8_t)*prefix) * 16777619u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static void make_weight(const struct dan_lm *lm, const char *hf, const struct dan_tensor *t)
{
    size_t n = strlen(hf), tail = strlen("norm.weight");
    bool norm = t->shape.n == 1 && n > tail && strcmp(hf + n - tail, "norm.weight") == 0 && !lm->cfg.norm_plus;
    float *w = t->data;
    for (int64_t i = 0; i < dan_shape_count(&t->shape); i++) w[i] = (norm ? 1.0f : 0.0f) + 0.25f * uniform(hash("", hf), (uint64_t)i);
}

/* A model folder with config.json of the case and these weights. */
static void write_model(struct golden *g, const struct dan_model *m, const struct dan_lm_config *cfg)
{
    static struct dan_named list[256];
    static char hf[256][200];
    struct dan_lm lm;
    struct dan_err e = {0};
    char path[400], *config;
    size_t bytes;
    bool turn;
    if (dan_lm_init(&lm, m, cfg, 1, &e)) fail_msg("%s: %s", g->name, e.msg);
    size_t n = dan_store_count(lm.store);
    assert_true(n <= 256);
    for (size_t i = 0; i < n; i++) {
        if (!dan_lm_hf_name(m, dan_store_name(lm.store, i), hf[i], sizeof hf[i], &turn))
            fail_msg("%s: '%s' has no name in files", g->name, dan_store_name(lm.store, i));
        make_weight(&lm, hf[i], dan_store_at(lm.store, i));
        list[i] = (struct dan_named){hf[i], dan_store_at(lm.store, i)};
    }
    snprintf(path, sizeof path, "%s/model.safetensors", g->tmp);
    if (dan_safetensors_save_list(path, list, n, NULL, 0, &e)) fail_msg("%s", e.msg);
    snprintf(path, sizeof path, "%s/config.json", g->dir);
    if (dan_read_file(path, &config, &bytes, &e)) fail_msg("%s", e.msg);
    snprintf(path, sizeof path, "%s/config.json", g->tmp);
    if (dan_write_file(path, config, bytes, &e)) fail_msg("%s", e.msg);
    dan_free(config);
    dan_lm_release(&lm);
}

static struct golden open_golden(const char *name)
{
    struct golden g = {.name = name};
    struct dan_err e = {0};
    struct dan_str arch = {0}, type = {0};
    struct dan_lm_config cfg = {0};
    char path[400];
    snprintf(g.dir, sizeof g.dir, "%.*s/arch/%s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, name);
    snprintf(g.tmp, sizeof g.tmp, "/tmp/danlu-arch-XXXXXX");
    assert_non_null(mkdtemp(g.tmp));
    if (dan_hf_config_kind(g.dir, &arch, &type, &e)) fail_msg("%s", e.msg);
    const struct dan_model *m = dan_model_find(arch.p);
    if (!m) fail_msg("%s: no family for %s", name, arch.p);
    if (dan_hf_config_load(g.dir, m->hf_model_type, m->fields, &cfg, &e)) fail_msg("%s: %s", name, e.msg);
    write_model(&g, m, &cfg);
    if (dan_lm_load(&g.lm, g.tmp, true, &e)) fail_msg("%s: %s", name, e.msg);
    snprintf(path, sizeof path, "%s/golden.safetensors", g.dir);
    if (dan_safetensors_open(path, &g.values, &e)) fail_msg("%s", e.msg);
    dan_str_release(&arch);
    dan_str_release(&type);
    return g;
}

static void close_golden(struct golden *g)
{
    dan_store_free(g->values);
    dan_lm_release(&g->lm);
    dan_remove_tree(g->tmp, NULL);
}

/* --- one program over the whole text */

struct net { struct dan_graph *graph; struct dan_program *program; int32_t pos[T], start[T], stop[T]; float weights[T]; };

static void bind(struct net *n, const char *name, const struct dan_dtype *t, const void *data)
{
    struct dan_tensor x = dan_tensor_of(t, DAN_SHAPE(T), (void *)data);
    struct dan_err e = {0};
    if (dan_bind(n->program, name, &x, &e)) fail_msg("%s", e.msg);
}

static void run_net(struct net *n, struct golden *g, bool loss, const char *pipeline)
{
    struct dan_io io = {.max_rows = T, .loss = loss, .logits = !loss, .max_select = T};
    struct dan_pass_opts p = {.loss = "loss", .head_ce_min_vocab = 32};
    struct dan_err e = {0};
    if (dan_lm_graph(&g->lm, &io, pipeline, &p, &n->graph, &e) || dan_compile(n->graph, NULL, &n->program, &e) ||
        dan_bind_store(n->program, g->lm.store, &e))
        fail_msg("%s: %s", g->name, e.msg);
    for (int i = 0; i < T; i++) {
        n->pos[i] = i;
        n->start[i] = 0;
        n->stop[i] = T;
        n->weights[i] = 1.0f / T;
    }
    bind(n, "tokens", &dan_dtype_i32, value(g, "tokens")->data);
    bind(n, "pos", &dan_dtype_i32, n->pos);
    bind(n, "start", &dan_dtype_i32, n->start);
    bind(n, "stop", &dan_dtype_i32, n->stop);
    bind(n, "self", &dan_dtype_i32, n->pos);
    if (loss) bind(n, "targets", &dan_dtype_i32, value(g, "targets")->data);
    if (loss) bind(n, "weights", &dan_dtype_f32, n->weights);
    else bind(n, "select", &dan_dtype_i32, n->pos);
    if (dan_run(n->program, &e)) fail_msg("%s: %s", g->name, e.msg);
}

static void close_net(struct net *n)
{
    dan_program_free(n->program);
    dan_graph_free(n->graph);
}

static void check_logits(const struct golden *g, const char *what, const char *how, const float *got)
{
    const float *want = value(g, what)->data;
    double top = 0, off = 0;
    for (int64_t i = 0; i < T * V; i++) {
        top = fmax(top, fabs((double)want[i]));
        if (!(fabs((double)got[i] - want[i]) <= off)) off = fabs((double)got[i] - want[i]);
    }
    if (!(off <= TOLERANCE * top)) fail_msg("%s, %s: %s differ by %.3g of %.3g", g->name, how, what, off, top);
}

static void check_forward(struct golden *g)
{
    static const char *const pipelines[] = {DAN_PIPELINE_EVAL, DAN_PIPELINE_INFER, ""};        /* fused first: they move weights */
    for (int p = 0; p < 3; p++) {
        static struct net n;
        run_net(&n, g, false, pipelines[p]);
        check_logits(g, "logits", pipelines[p], dan_result_named(n.program, "logits")->data);
        close_net(&n);
    }
}

/* --- gradients: norm, and product with numbers that depend on the name */

static int64_t check_gradient(const struct golden *g, const char *name, const struct dan_tensor *got, int64_t row)
{
    char hf[200], key[220];
    bool turn = false;
    if (!dan_lm_hf_name(g->lm.model, name, hf, sizeof hf, &turn)) fail_msg("'%s' has no name in files", name);
    snprintf(key, sizeof key, "grad.%s", hf);
    const float *want = value(g, key)->data;
    const struct dan_tensor *w = dan_store_find(g->lm.store, name);
    int64_t count = dan_shape_count(&w->shape), cols = w->shape.n > 1 ? w->shape.d[1] : 1;
    const float *x = (const float *)got->data + row * cols;
    double square = 0, product = 0;
    for (int64_t i = 0; i < count; i++) {
        square += (double)x[i] * x[i];
        product += (double)x[i] * uniform(hash("grad.", hf), (uint64_t)i);
    }
    double norm = sqrt(square), slack = GRADIENT * fmax((double)want[0], 1e-2);
    if (!(fabs(norm - want[0]) <= slack && fabs(product - want[1]) <= slack))
        fail_msg("%s: the gradient of %s has norm %.7g and product %.7g, expected %.7g and %.7g", g->name, hf, norm, product, (double)want[0],
                 (double)want[1]);
    return w->shape.d[0];
}

static void check_training(struct golden *g)
{
    static const char *const pipelines[] = {DAN_PIPELINE_TRAIN, DAN_PIPELINE_TRAIN_REMAT, "autodiff"};
    size_t want = 0;
    for (size_t i = 0; i < dan_store_count(g->values); i++) want += strncmp(dan_store_name(g->values, i), "grad.", 5) == 0;
    for (int p = 0; p < 3; p++) {
        static struct net n;
        size_t count = 0;
        run_net(&n, g, true, pipelines[p]);
        double loss = (double)*(const float *)dan_result_named(n.program, "loss")->data, is = (double)*(const float *)value(g, "loss")->data;
        if (!(fabs(loss - is) < TOLERANCE * is)) fail_msg("%s: loss is %.9g, expected %.9g", g->name, loss, is);
        for (int32_t i = 0; i < n.graph->n_out; i++) {
            if (strncmp(n.graph->out_name[i], "grad:", 5)) continue;
            char names[512];
            snprintf(names, sizeof names, "%s", n.graph->out_name[i] + 5);
            int64_t row = 0;
            for (char *name = names, *end; name; name = end ? end + 1 : NULL, count++) {
                end = strchr(name, '+');
                if (end) *end = 0;
                row += check_gradient(g, name, dan_result(n.program, i), row);
            }
        }
        assert_int_equal(count, want);
        close_net(&n);
    }
}

/* --- with a cache */

static void feed_in(struct golden *g, int64_t chunk, float *logits)
{
    struct dan_session *s;
    struct dan_err e = {0};
    const int32_t *ids = value(g, "tokens")->data;
    if (dan_session_new(&g->lm, &(struct dan_session_opts){.context = T, .max_rows = T, .max_select = T}, &s, &e)) fail_msg("%s: %s", g->name, e.msg);
    for (int64_t at = 0; at < T; at += chunk) {
        int64_t n = chunk < T - at ? chunk : T - at;
        if (dan_session_feed(s, &(struct dan_feed){0, ids + at, n, n, logits + at * V}, 1, &e)) fail_msg("%s: %s", g->name, e.msg);
    }
    dan_session_free(s);
}

static void check_cache(struct golden *g)
{
    static float whole[T * V], got[T * V];
    static const int64_t chunks[] = {1, 7, 16};
    feed_in(g, T, whole);
    check_logits(g, dan_store_find(g->values, "logits.cached") ? "logits.cached" : "logits", "a session", whole);
    for (int i = 0; i < 3; i++) {
        feed_in(g, chunks[i], got);
        if (memcmp(whole, got, sizeof got)) fail_msg("%s: feeds of %d tokens give other bits than one feed", g->name, (int)chunks[i]);
    }
}

/* The rules that join nodes still find them: one product for q, k, v and one for gate, up; keys turned on their way into the
 * cache; one pass for the gate. */
static void check_fused(struct golden *g)
{
    static const char *const ops[] = {"matmul", "rope_kv_write", "skip_rms_norm", "silu or gelu by itself"};
    int64_t layers = g->lm.cfg.layers, want[] = {4 * layers + 1, layers, 2 * layers, 0}, got[4] = {0};
    struct dan_io io = {.max_rows = T, .logits = true, .max_select = 1, .cache_rows = T};
    struct dan_graph *graph;
    struct dan_err e = {0};
    if (dan_lm_graph(&g->lm, &io, DAN_PIPELINE_INFER, NULL, &graph, &e)) fail_msg("%s: %s", g->name, e.msg);
    for (int32_t i = 1; i < graph->n; i++) {
        for (int k = 0; k < 3; k++) got[k] += dan_op_is(&graph->node[i], ops[k]);
        got[3] += dan_op_is(&graph->node[i], "act") && graph->node[i].attr[0].i != DAN_ACT_TANH;
    }
    for (int k = 0; k < 4; k++)
        if (got[k] != want[k]) fail_msg("%s: %lld of %s, expected %lld", g->name, (long long)got[k], ops[k], (long long)want[k]);
    dan_graph_free(graph);
}

/* --- written and read again; into DANLU_ARCH_OUT too, for make_arch_golden.py --saved */

static void check_saved(struct golden *g)
{
    static struct net a, b;
    char dir[400];
    const char *keep = getenv("DANLU_ARCH_OUT");
    struct dan_err e = {0};
    struct golden again = *g;
    if (keep) snprintf(dir, sizeof dir, "%.300s/%s", keep, g->name);
    else snprintf(dir, sizeof dir, "%s/saved", g->tmp);
    if (dan_lm_save(&g->lm, dir, &e) || dan_lm_load(&again.lm, dir, false, &e)) fail_msg("%s: %s", g->name, e.msg);
    run_net(&a, g, false, DAN_PIPELINE_INFER);
    run_net(&b, &again, false, DAN_PIPELINE_INFER);
    if (memcmp(dan_result_named(a.program, "logits")->data, dan_result_named(b.program, "logits")->data, sizeof(float) * T * V))
        fail_msg("%s: read again from what was written, the logits are others", g->name);
    close_net(&a);
    close_net(&b);
    dan_lm_release(&again.lm);
}

static void test_families(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct golden g = open_golden(cases[i]);
        check_forward(&g);
        check_cache(&g);
        check_fused(&g);
        check_training(&g);
        check_saved(&g);
        close_golden(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
