/* Prefill + decode equals one forward over the whole text, bit for bit: for every family, any chunk size, alone or
 * in company, any number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "exec/exec.h"
#include "infer/session.h"
#include "model/quantize.h"

enum { V = 61, CONTEXT = 96, T = 75, N_SEQ = 5 };      /* T crosses the attention kernels' block of 64 keys */

enum { SCALAR = 1 << 30, REF = 1 << 29 };              /* features no CPU has: kernels that need none; no kernels */
struct variant { const char *name; int64_t hidden, layers; bool q8_0; enum dan_prec prec; uint64_t mask; bool stored, always; const char *kv; };
static const struct variant variants[] = {
    {"f32", 48, 2, false, DAN_PREC_F32, 0, false, true, NULL},
    {"f32 avx2", 48, 2, false, DAN_PREC_F32, DAN_CPU_AVX2, false, false, NULL},
    {"f32 scalar", 48, 1, false, DAN_PREC_F32, SCALAR, false, false, NULL},
    {"f32 ref", 48, 1, false, DAN_PREC_F32, REF, false, false, NULL},
    {"wide f32", 320, 1, false, DAN_PREC_F32, 0, false, false, NULL}, /* products longer than the kernels' blocks */
    {"q8_0", 64, 2, true, DAN_PREC_F32, 0, false, false, NULL},
    {"q8_0 avx2", 64, 2, true, DAN_PREC_F32, DAN_CPU_AVX2, false, false, NULL},
    {"q8_0 scalar", 64, 1, true, DAN_PREC_F32, SCALAR, false, false, NULL},
    {"bf16", 64, 2, false, DAN_PREC_BF16, 0, false, false, NULL},
    {"bf16 avx512", 64, 2, false, DAN_PREC_BF16, DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16, false, false, NULL},
    {"bf16 weights", 64, 2, false, DAN_PREC_F32, 0, true, true, NULL},
    {"wide bf16 weights", 640, 1, false, DAN_PREC_F32, 0, true, false, NULL},
    {"bf16 weights avx512", 64, 2, false, DAN_PREC_F32, DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16, true, false, NULL},
    {"bf16 weights avx512 f32", 64, 2, false, DAN_PREC_F32, DAN_CPU_AVX512, true, false, NULL},
    {"bf16 weights avx2", 64, 2, false, DAN_PREC_F32, DAN_CPU_AVX2, true, false, NULL},
    {"bf16 weights scalar", 48, 1, false, DAN_PREC_F32, SCALAR, true, false, NULL},
    {"8-bit cache", 64, 2, false, DAN_PREC_F32, 0, false, false, "q8"},
    {"8-bit cache avx2", 48, 1, false, DAN_PREC_F32, DAN_CPU_AVX2, false, false, "q8"},
    {"8-bit cache ref", 48, 1, false, DAN_PREC_F32, REF, false, false, "q8"},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };

/* What dan_lm_load leaves as it is when the file says bf16. */
static void store_bf16(struct dan_lm *lm)
{
    struct dan_graph *g;
    struct dan_err e = {0};
    struct dan_store *made;
    struct dan_io io = {.max_rows = 1, .lanes = lm->model->time_major, .logits = true, .max_select = 1};
    assert_int_equal(dan_lm_graph(lm, &io, "", NULL, &g, &e), DAN_OK);
    assert_int_equal(dan_store_new(&made, &e), DAN_OK);
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "param") || n->shape.n != 2 || !dan_lm_only_products(g, i)) continue;
        assert_int_equal(dan_store_add(made, n->name, &dan_dtype_bf16, n->shape, &e), DAN_OK);
        dan_dtype_bf16.from_f32(dan_store_find(lm->store, n->name)->data, dan_store_find(made, n->name)->data, dan_shape_count(&n->shape));
        assert_int_equal(dan_store_share(lm->store, n->name, made, n->name, &e), DAN_OK);
    }
    dan_store_free(made);
    dan_graph_free(g);
}

/* Of llama: other norms, biases, windows around the same products. */
static bool is_variation(const struct dan_model *m)
{
    return !m->time_major && strcmp(m->name, "gpt") && strcmp(m->name, "llama");
}

static struct dan_lm new_lm(const struct dan_model *m, const struct variant *v)
{
    struct dan_lm_config cfg = {.vocab = V,
                                .context = CONTEXT,
                                .hidden = v->hidden,
                                .layers = v->layers,
                                .heads = 4,
                                .tied = m->time_major,
                                .bias = true,
                                .bos = -1,
                                .eos = -1};
    if (strcmp(m->name, "gpt") && !m->time_major) cfg.kv_heads = 2;
    if (is_variation(m)) {
        cfg.window = (struct dan_window){40, {1}};     /* the first layer forgets, and crosses a block of keys */
        cfg.rope = (struct dan_rope){.kind = DAN_ROPE_LLAMA3, .factor = 4, .original = 24, .low = 1, .high = 4};
    }
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, m, &cfg, 7, &e)) fail_msg("%s", e.msg);
    if (v->q8_0 && dan_lm_quantize(&lm, &dan_dtype_q8_0, NULL, NULL, &e)) fail_msg("%s", e.msg);
    if (v->stored) store_bf16(&lm);
    return lm;
}

/* Sequence k: T - 3k tokens. */
static int64_t length_of(int k) { return T - 3 * k; }

static void fill(int k, int32_t *ids)
{
    struct dan_rng r = {.seed = 11, .stream = (uint64_t)k};
    for (int i = 0; i < T; i++) ids[i] = (int32_t)dan_rng_below(&r, V);
}

static void bind(struct dan_program *p, const char *name, int32_t *v, int64_t n)
{
    struct dan_tensor t = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n), v);
    struct dan_err e = {0};
    if (dan_bind(p, name, &t, &e)) fail_msg("%s", e.msg);
}

static struct dan_session *new_session(struct dan_lm *lm, const struct variant *v, int64_t slots, int64_t max_rows, struct dan_pool *pool);
static void feed(struct dan_session *s, const struct dan_feed *f, int64_t n);

/* The whole of sequence k in one run of a session. */
static void forward_cached(struct dan_lm *lm, const struct variant *v, int k, float *logits)
{
    int32_t ids[T];
    fill(k, ids);
    struct dan_session *s = new_session(lm, v, 1, CONTEXT, NULL);
    feed(s, &(struct dan_feed){0, ids, length_of(k), length_of(k), logits}, 1);
    dan_session_free(s);
}

/* The whole of sequence k at once, no cache: logits [n, V]. */
static void forward(struct dan_lm *lm, const struct variant *v, int k, float *logits)
{
    int64_t n = length_of(k);
    int32_t ids[T], pos[T], start[T] = {0}, stop[T], reset[T] = {1}, select[T];
    struct dan_io io = {.max_rows = n, .lanes = lm->model->time_major, .logits = true, .max_select = n};
    struct dan_graph *g = NULL;
    struct dan_program *p = NULL;
    struct dan_err e = {0};
    if (v->stored || v->q8_0 || v->kv) {       /* its cache may be bf16 or q8, and rounding keys and values changes bits */
        forward_cached(lm, v, k, logits);
        return;
    }
    fill(k, ids);
    for (int i = 0; i < n; i++) pos[i] = select[i] = i, stop[i] = (int32_t)n;
    struct dan_pass_opts po = {.prec = v->prec};
    struct dan_exec_opts xo = {.ref = v->mask == REF, .cpu_mask = v->mask};
    if (dan_lm_graph(lm, &io, DAN_PIPELINE_EVAL, &po, &g, &e)) fail_msg("%s", e.msg);
    for (int32_t i = 1; i < g->n; i++) g->node[i].half = 0;    /* a graph with a cache keeps f32 values (pass mixed) */
    if (dan_compile(g, &xo, &p, &e) || dan_bind_store(p, lm->store, &e)) fail_msg("%s", e.msg);
    bind(p, "tokens", ids, n);
    bind(p, "select", select, n);
    if (lm->model->time_major) {
        bind(p, "reset", reset, n);
    } else {
        bind(p, "pos", pos, n);
        bind(p, "self", pos, n);
        bind(p, "start", start, n);
        bind(p, "stop", stop, n);
    }
    if (dan_run(p, &e)) fail_msg("%s", e.msg);
    memcpy(logits, dan_result_named(p, "logits")->data, sizeof(float) * (size_t)(n * V));
    dan_program_free(p);
    dan_graph_free(g);
}

static struct dan_session *new_session(struct dan_lm *lm, const struct variant *v, int64_t slots, int64_t max_rows, struct dan_pool *pool)
{
    struct dan_session_opts o = {.slots = slots,
                                 .context = CONTEXT,
                                 .max_rows = max_rows,
                                 .max_select = max_rows,
                                 .prec = v->prec,
                                 .pool = pool,
                                 .ref = v->mask == REF,
                                 .cpu_mask = v->mask, .kv_type = v->kv};
    struct dan_session *s;
    struct dan_err e = {0};
    if (dan_session_new(lm, &o, &s, &e)) fail_msg("%s", e.msg);
    return s;
}

static void feed(struct dan_session *s, const struct dan_feed *f, int64_t n)
{
    struct dan_err e = {0};
    if (dan_session_feed(s, f, n, &e)) fail_msg("%s", e.msg);
}

static void same(const struct dan_lm *lm, const struct variant *v, const char *how, int k, const float *want, const float *got)
{
    for (int64_t i = 0; i < length_of(k); i++)
        for (int j = 0; j < V; j++)
            if (memcmp(&want[i * V + j], &got[i * V + j], sizeof(float)))
                fail_msg("%s %s, %s: sequence %d, token %d, logit %d is %.9g, the whole forward gave %.9g", lm->model->name, v->name, how,
                         k, (int)i, j, (double)got[i * V + j], (double)want[i * V + j]);
}

/* Chunks of `chunk` tokens, then one at a time. */
static void prefill_then_decode(struct dan_session *s, int32_t slot, int k, int64_t prompt, int64_t chunk, float *logits)
{
    int32_t ids[T];
    fill(k, ids);
    dan_session_reset(s, slot);
    for (int64_t at = 0, n; at < length_of(k); at += n) {
        n = at >= prompt ? 1 : chunk < prompt - at ? chunk : prompt - at;
        feed(s, &(struct dan_feed){slot, ids + at, n, n, logits + at * V}, 1);
    }
    assert_int_equal(dan_session_length(s, slot), length_of(k));
}

static void check_alone(struct dan_lm *lm, const struct variant *v, float *const *want, float *got, int threads)
{
    static const int64_t chunks[] = {1, 3, 7, T};
    struct dan_pool *pool;
    struct dan_err e = {0};
    char how[64];
    assert_int_equal(dan_pool_new(threads, &pool, &e), 0);
    struct dan_session *s = new_session(lm, v, 1, T, pool);
    for (int i = 0; i < 4; i++) {
        snprintf(how, sizeof how, "alone, chunks of %d, %d threads", (int)chunks[i], threads);
        prefill_then_decode(s, 0, 1, 50, chunks[i], got);
        same(lm, v, how, 1, want[1], got);
    }
    dan_session_free(s);
    s = new_session(lm, v, 1, 7, pool);           /* the session itself cuts a long feed */
    prefill_then_decode(s, 0, 0, length_of(0), T, got);
    same(lm, v, "runs of 7 rows", 0, want[0], got);
    dan_session_free(s);
    dan_pool_free(pool);
}

/* Five sequences of different lengths prefilled together, decoded together, in slots that had other text before. */
static void check_company(struct dan_lm *lm, const struct variant *v, float *const *want, int threads, int64_t max_rows)
{
    struct dan_feed f[N_SEQ];
    static int32_t ids[N_SEQ][T];
    float *got[N_SEQ];
    struct dan_pool *pool;
    struct dan_err e = {0};
    char how[64];
    snprintf(how, sizeof how, "company of 5, runs of %d rows, %d threads", (int)max_rows, threads);
    assert_int_equal(dan_pool_new(threads, &pool, &e), 0);
    struct dan_session *s = new_session(lm, v, N_SEQ, max_rows, pool);
    for (int k = 0; k < N_SEQ; k++) {
        fill(k, ids[k]);
        got[k] = dan_malloc(sizeof(float) * T * V);
        feed(s, &(struct dan_feed){k, ids[k] + 5, 9 + k, 0, NULL}, 1);
        dan_session_reset(s, k);
    }
    for (int k = 0; k < N_SEQ; k++) {
        int64_t n = 10 + 11 * k;
        f[k] = (struct dan_feed){N_SEQ - 1 - k, ids[k], n, n, got[k]};
    }
    feed(s, f, N_SEQ);
    for (int left = N_SEQ; left;) {
        left = 0;
        for (int k = 0; k < N_SEQ; k++) {
            int slot = N_SEQ - 1 - k;
            int64_t at = dan_session_length(s, slot);
            if (at < length_of(k)) f[left++] = (struct dan_feed){slot, ids[k] + at, 1, 1, got[k] + at * V};
        }
        feed(s, f, left);
    }
    for (int k = 0; k < N_SEQ; k++) {
        same(lm, v, how, k, want[k], got[k]);
        dan_free(got[k]);
    }
    dan_session_free(s);
    dan_pool_free(pool);
}

/* ThreadSanitizer looks for races, which two threads show: the rest is for the other builds. */
#if defined(__SANITIZE_THREAD__)
enum { RACES_ONLY = 1 };
#else
enum { RACES_ONLY = 0 };
#endif

static void check_model(const struct dan_model *m, const struct variant *v)
{
    struct dan_lm lm = new_lm(m, v);
    float *want[N_SEQ], *got = dan_malloc(sizeof(float) * T * V);
    for (int k = 0; k < N_SEQ; k++) {
        want[k] = dan_malloc(sizeof(float) * T * V);
        forward(&lm, v, k, want[k]);
    }
    bool few = is_variation(m) || RACES_ONLY;
    for (int threads = few ? 2 : 1; threads <= (few ? 2 : 3); threads++) {
        check_alone(&lm, v, want, got, threads);
        if (!few) check_company(&lm, v, want, threads, 512);
        check_company(&lm, v, want, threads, 10);
    }
    for (int k = 0; k < N_SEQ; k++) dan_free(want[k]);
    dan_free(got);
    dan_lm_release(&lm);
}

static void test_bits(void **state)
{
    (void)state;
    for (int i = 0; i < N_VARIANTS; i++)
        for (int m = 0; dan_models[m]; m++)
            if (variants[i].always || !(is_variation(dan_models[m]) || (RACES_ONLY && strcmp(dan_models[m]->name, "llama")))) check_model(dan_models[m], &variants[i]);
}

static void test_truncate(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm(dan_model_find("llama"), &variants[0]);
    struct dan_session *s = new_session(&lm, &variants[0], 2, 32, NULL);
    int32_t ids[T], other[] = {5, 6, 7, 8};
    float a[V], b[V];
    fill(0, ids);
    feed(s, &(struct dan_feed){1, ids, 21, 1, a}, 1);
    assert_true(dan_session_truncate(s, 1, 12));
    feed(s, &(struct dan_feed){1, other, 4, 0, NULL}, 1);
    assert_true(dan_session_truncate(s, 1, 12));
    feed(s, &(struct dan_feed){1, ids + 12, 9, 1, b}, 1);
    assert_memory_equal(a, b, sizeof a);
    assert_false(dan_session_truncate(s, 1, 22));
    dan_session_free(s);
    dan_lm_release(&lm);
}

/* Memory of a cache: a quarter of f32's and a scale a head and token; unknown names are refused. */
static void test_kv_types(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm(dan_model_find("llama"), &variants[0]);
    static const struct { const char *name; size_t bytes; } types[] = {{NULL, 4 * 12}, {"f32", 4 * 12}, {"bf16", 2 * 12}, {"q8", 12 + 4}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct dan_session *s;
        struct dan_session_memory m;
        struct dan_err e = {0};
        assert_int_equal(dan_session_new(&lm, &(struct dan_session_opts){.slots = 2, .context = 32, .kv_type = types[i].name}, &s, &e), DAN_OK);
        dan_session_memory(s, &m);
        assert_int_equal(m.state, 2 * 2 * 2 * 32 * 2 * types[i].bytes);      /* layers, keys and values, slots, tokens, heads */
        double weights = lm.cfg.tied ? 0 : -4. * V * 48;
        for (size_t k = 0; k < dan_store_count(lm.store); k++)
            if (!strchr(dan_store_name(lm.store, k), '+')) weights += (double)dan_tensor_bytes(dan_store_at(lm.store, k));
        assert_true(dan_session_step_bytes(s, 2, 8) == weights + (double)m.state * 8 / 32);
        dan_session_free(s);
    }
    struct dan_session *s;
    struct dan_err e = {0};
    assert_int_equal(dan_session_new(&lm, &(struct dan_session_opts){.kv_type = "f8"}, &s, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'f8'"));
    dan_lm_release(&lm);
}

static void test_limits(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm(dan_model_find("gpt"), &variants[0]);
    struct dan_session *s;
    struct dan_err e = {0};
    assert_int_equal(dan_session_new(&lm, &(struct dan_session_opts){.context = CONTEXT + 1}, &s, &e), DAN_EINVAL);
    s = new_session(&lm, &variants[0], 1, 32, NULL);
    int32_t ids[CONTEXT + 1] = {0}, wrong = V;
    e = (struct dan_err){0};
    assert_int_equal(dan_session_feed(s, &(struct dan_feed){0, ids, CONTEXT + 1, 0, NULL}, 1, &e), DAN_EINVAL);
    assert_int_equal(dan_session_length(s, 0), 0);
    feed(s, &(struct dan_feed){0, ids, CONTEXT, 0, NULL}, 1);
    assert_int_equal(dan_session_room(s, 0), 0);
    dan_session_reset(s, 0);
    e = (struct dan_err){0};
    assert_int_equal(dan_session_feed(s, &(struct dan_feed){0, &wrong, 1, 0, NULL}, 1, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "vocabulary"));
    dan_session_free(s);
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_truncate), cmocka_unit_test(test_kv_types), cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
