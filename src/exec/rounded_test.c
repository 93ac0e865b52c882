/* The rules quantise_rows and fuse_norm_quantise: what they say and make, and that they change no bit: a small network with weights in every
 * format that products round for, on every ISA that this CPU has, with odd rows and threads, against the same without the rules. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "core/rounded.h"
#include "exec/exec.h"
#include "op/ops.h"
#include "pass/pass.h"

#define RULES "fuse_skip_norm,quantise_rows,fuse_norm_quantise,dce"
enum { C = 256, N1 = 48, N2 = 33, ROWS = 19 }; /* whole blocks of every format */

/* ---- what the rules say ---------------------------------------------------------------------- */

static int by_groups(const void *ctx, const struct dan_graph *g, dan_ref product)
{
    (void)ctx;
    return g->node[g->node[product].in[1]].dtype->block > 1 ? DAN_ROUNDED_GROUPS : DAN_ROUNDED_NOT;
}

static void write_note(void *ctx, const struct dan_fusion_note *n)
{
    struct dan_str *s = ctx;
    if (n->rule->name[0] != 'q' && !strstr(n->rule->name, "quantise")) return;
    dan_str_printf(s, "%s%s", s->n ? "; " : "", n->rule->name[0] == 'q' ? "rows" : "norm");
    for (const dan_ref *r = n->node; *r; r++) dan_str_printf(s, " %d", *r);
    if (n->why_not) dan_str_printf(s, ": %s", n->why_not);
}

#define LEAVES \
    "%1 = input \"x\" : f32[4,64]\n%2 = param \"g\" : f32[64]\n%3 = param \"a\" : q8_0[8,64]\n%4 = param \"b\" : q4_0[8,64]\n" \
    "%5 = param \"c\" : f32[8,64]\n%6 = param \"i\" : q8_0[64,64]\n"
#define MATMUL(x, w) "matmul(%" #x ", %" #w ") {tb=1}\n"
#define ALONE "no other product reads these rows, and no norm makes them: its kernel rounds them"
#define OTHERS "others read the normed rows, but not rounded so: its kernel rounds them"

static const struct { const char *graph, *says, *ops; } cases[] = {
    {LEAVES "%7 = " MATMUL(1, 3) "output \"y\" = %7\n", "rows 7: " ALONE, "matmul"},
    {LEAVES "%7 = " MATMUL(1, 3) "%8 = " MATMUL(1, 4) "output \"y\" = %7\noutput \"z\" = %8\n", "rows 7 8", "quantise_rows matmul matmul"},
    {LEAVES "%7 = " MATMUL(1, 5) "output \"y\" = %7\n", "", "matmul"},
    {LEAVES "%7 = rms_norm(%1, %2) {eps=0.1}\n%8 = " MATMUL(7, 3) "output \"y\" = %8\n", "rows 8; norm 7 8", "rms_norm matmul"},
    {LEAVES "%7 = layer_norm(%1, %2, _) {eps=0.1}\n%8 = " MATMUL(7, 3) "%9 = " MATMUL(7, 4) "output \"y\" = %8\noutput \"z\" = %9\n",
     "rows 8 9; norm 7 8", "layer_norm matmul matmul"},
    {LEAVES "%7 = rms_norm(%1, %2) {eps=0.1}\n%8 = " MATMUL(7, 3) "%9 = " MATMUL(7, 5) "output \"y\" = %8\noutput \"z\" = %9\n",
     "rows 8: " OTHERS, "rms_norm matmul matmul"},
    {LEAVES "%7 = rms_norm(%1, %2) {eps=0.1}\n%8 = " MATMUL(7, 3) "%9 = " MATMUL(7, 5) "%10 = " MATMUL(7, 4)
     "output \"y\" = %8\noutput \"z\" = %9\noutput \"a\" = %10\n",
     "rows 8 10; norm 7 8: matmul reads the normed rows, too", "rms_norm quantise_rows matmul matmul matmul"},
    {LEAVES "%7 = rms_norm(%1, %2) {eps=0.1}\n%8 = " MATMUL(7, 3) "output \"y\" = %8\noutput \"n\" = %7\n",
     "rows 8: " OTHERS, "rms_norm matmul"},
    {LEAVES "%7 = rms_norm(%1, %2) {eps=0.1}\n%8 = " MATMUL(7, 3) "%9 = " MATMUL(7, 4) "output \"y\" = %8\noutput \"z\" = %9\noutput \"n\" = %7\n",
     "rows 8 9; norm 7 8: an output reads the normed rows, too", "rms_norm quantise_rows matmul matmul"},
    {LEAVES "%7 = " MATMUL(1, 6) "%8 = add(%1, %7)\n%9 = rms_norm(%8, %2) {eps=0.1}\n%10 = " MATMUL(9, 3) "output \"s\" = %8\noutput \"y\" = %10\n",
     "rows 7: " ALONE "; rows 11; norm 8 11", "matmul skip_rms_norm matmul"},
};

static void put_ops(const struct dan_graph *g, struct dan_str *s)
{
    for (int32_t i = 1; i < g->n; i++)
        if (!(g->node[i].op->props & DAN_OP_LEAF) && !dan_op_is(&g->node[i], "pick")) dan_str_printf(s, "%s%s", s->n ? " " : "", g->node[i].op->name);
}

static void rules_say_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dan_err e = {0};
        struct dan_graph *g;
        struct dan_str said = {0}, ops = {0};
        struct dan_pass_opts o = {.note = write_note, .note_ctx = &said, .rounds = by_groups};
        if (dan_graph_parse(cases[i].graph, &g, &e) || dan_run_passes(g, RULES, &o, &e)) fail_msg("case %zu: %s", i, e.msg);
        put_ops(g, &ops);
        assert_string_equal(dan_str_c(&said), cases[i].says);
        assert_string_equal(dan_str_c(&ops), cases[i].ops);
        dan_str_release(&said);
        dan_str_release(&ops);
        dan_graph_free(g);
    }
}

/* Who knows nothing of kernels rounds nothing; nor does a program of references. */
static void nothing_is_rounded_unasked(void **state)
{
    struct dan_err e = {0};
    struct dan_graph *g;
    struct dan_str ops = {0};
    struct dan_exec_choice ref = dan_exec_choice_of(&(struct dan_exec_opts){.ref = true});
    struct dan_pass_opts o[] = {{.rounds = NULL}, {.rounds = dan_exec_rounds, .rounds_ctx = &ref}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        if (dan_graph_parse(cases[1].graph, &g, &e) || dan_run_passes(g, RULES, &o[k], &e)) fail_msg("%s", e.msg);
        put_ops(g, &ops);
        assert_string_equal(dan_str_c(&ops), "matmul matmul");
        dan_str_clear(&ops);
        dan_graph_free(g);
    }
    dan_str_release(&ops);
}

/* ---- the same bits --------------------------------------------------------------------------- */

static dan_ref product(struct dan_builder *b, dan_ref x, const struct dan_dtype *t, const char *name, int64_t n, int64_t k)
{
    char scale[16];
    dan_ref w = dan_param(b, name, t, DAN_SHAPE(n, k), "zeros");
    if (t->block > 1) return dan_linear(b, x, w, 0);
    snprintf(scale, sizeof scale, "%s.scale", name);
    dan_ref s = dan_param(b, scale, &dan_dtype_f32, DAN_SHAPE(n), "zeros");
    return DAN_EMIT(b, matmul, 5, ((const union dan_attr[]){DAN_I(0), DAN_I(1), DAN_I(0), DAN_I(0), DAN_I(0)}), x, w, 0, 0, s, 0, 0);
}

/* An attention-like start and a feed-forward-like end: q, k of one norm, a residual, gate and up of the next. */
static struct dan_graph *network(const struct dan_dtype *t, bool layer)
{
    struct dan_builder b;
    struct dan_graph *g = dan_graph_new();
    struct dan_err e = {0};
    assert_non_null(g);
    dan_builder_init(&b, g);
    dan_ref x = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(ROWS, C), 1), g1 = dan_param(&b, "g1", &dan_dtype_f32, DAN_SHAPE(C), "ones");
    dan_ref g2 = dan_param(&b, "g2", &dan_dtype_f32, DAN_SHAPE(C), "ones"), b1 = layer ? dan_param(&b, "b1", &dan_dtype_f32, DAN_SHAPE(C), "ones") : 0;
    dan_ref h = layer ? dan_layer_norm(&b, x, g1, b1, 1e-5) : dan_rms_norm(&b, x, g1, 1e-5);
    dan_output(&b, "q", product(&b, h, t, "q", N1, C));
    dan_output(&b, "k", product(&b, h, t, "k", N2, C));
    dan_ref s = dan_add(&b, x, dan_scale(&b, x, 0.3)), n = layer ? dan_layer_norm(&b, s, g2, 0, 1e-5) : dan_rms_norm(&b, s, g2, 1e-5);
    dan_output(&b, "up", product(&b, n, t, "up", N1, C));
    dan_output(&b, "gate", product(&b, n, t, "gate", N2, C));
    dan_output(&b, "s", s);
    if (dan_builder_check(&b, &e)) fail_msg("%s", e.msg);
    return g;
}

static void fill(const struct dan_tensor *t, const char *name)
{
    struct dan_rng r = {.seed = 5, .stream = (uint64_t)name[0] * 31 + (uint64_t)name[1] * 7 + (uint64_t)t->shape.n};
    float x[C * 2];
    for (int64_t i = 0; i < dan_rows(t); i++) {
        for (int64_t k = 0; k < dan_cols(t); k++) x[k] = (float)dan_rng_normal(&r) * (t->dtype == &dan_dtype_i8 ? 30.f : 0.5f);
        if (t->dtype == &dan_dtype_i8)
            for (int64_t k = 0; k < dan_cols(t); k++) ((int8_t *)dan_row(t, i))[k] = (int8_t)fmaxf(-128, fminf(127, x[k]));
        else if (t->dtype->block > 1 && !t->dtype->from_f32)
            memset(dan_row(t, i), 0, dan_dtype_bytes(t->dtype, dan_cols(t)));
        else
            t->dtype->from_f32(x, dan_row(t, i), dan_cols(t));
    }
}

struct setting { const struct dan_dtype *t; bool layer; uint64_t cpu; int threads; };

static struct dan_program *run_network(const struct setting *v, const char *fusion, struct dan_pool *pool, struct dan_store *s, struct dan_graph *g,
                                       float *x, int64_t rows, bool bad)
{
    struct dan_err e = {0};
    struct dan_program *p = NULL;
    struct dan_exec_opts o = {.pool = pool, .cpu_mask = v->cpu, .pack = true};
    struct dan_exec_choice choice = dan_exec_choice_of(&o);
    struct dan_pass_opts po = {.fusion = fusion, .rounds = dan_exec_rounds, .rounds_ctx = &choice};
    for (int64_t i = 0; i < ROWS * C; i++) x[i] = (float)((i * 7919 + i / C * 31) % 1009 - 504) / 77.f * (i / C % 3 ? 1.f : 1e-3f);
    memset(x + 2 * C, 0, sizeof(float) * C);   /* a row of zeros */
    if (bad) x[5] = INFINITY, x[C + 7] = NAN;
    int rc = dan_run_passes(g, RULES, &po, &e);
    if (!rc) rc = dan_compile(g, &o, &p, &e);
    if (!rc) rc = dan_bind_store(p, s, &e);
    const struct dan_tensor tx = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(rows, C), x);
    if (!rc) rc = dan_bind(p, "x", &tx, &e);
    if (!rc) rc = dan_run(p, &e);
    if (rc) fail_msg("%s: %s", v->t->name, e.msg);
    return p;
}

static int count(const struct dan_graph *g, const char *op)
{
    int n = 0;
    for (int32_t i = 1; i < g->n; i++) n += dan_op_is(&g->node[i], op);
    return n;
}

static int rounding_norms(const struct dan_graph *g)
{
    int n = 0;
    for (int32_t i = 1; i < g->n; i++) n += strstr(g->node[i].op->name, "_norm") && g->node[i].attr[DAN_NORM_ROUND].i;
    return n;
}

static bool compare_networks(const struct setting *v, bool bad)
{
    static const char *const fusion[] = {"skip_norm", "skip_norm,quantise_rows", "skip_norm,quantise_rows,norm_quantise"};
    struct dan_err e = {0};
    struct dan_store *s;
    struct dan_pool *pool;
    struct dan_graph *g[3];
    struct dan_program *p[3];
    int64_t rows = v->threads == 1 ? 1 : v->threads == 2 ? 5 : ROWS;
    float *x = dan_malloc(sizeof *x * ROWS * C);
    assert_non_null(x);
    assert_int_equal(dan_pool_new(v->threads, &pool, &e) || dan_store_new(&s, &e), 0);
    for (int k = 0; k < 3; k++) {
        g[k] = network(v->t, v->layer);
        for (int32_t i = 1; i < g[k]->n && k == 0; i++)
            if (dan_op_is(&g[k]->node[i], "param")) {
                assert_int_equal(dan_store_add(s, g[k]->node[i].name, g[k]->node[i].dtype, g[k]->node[i].shape, &e), 0);
                fill(dan_store_find(s, g[k]->node[i].name), g[k]->node[i].name);
            }
        p[k] = run_network(v, fusion[k], pool, s, g[k], x, rows, bad);
    }
    bool rounds = count(g[1], "quantise_rows") == 2;
    assert_int_equal(rounding_norms(g[2]), rounds ? 2 : 0);
    for (int k = 1; k < 3; k++)
        for (int i = 0; i < g[0]->n_out; i++) {
            const struct dan_tensor *a = dan_result(p[0], i), *b = dan_result_named(p[k], g[0]->out_name[i]);
            if (memcmp(a->data, b->data, dan_tensor_bytes(a)) && !bad)
                fail_msg("%s, cpu %llx, %d threads: '%s' has other bits with %s", v->t->name, (unsigned long long)v->cpu, v->threads, g[0]->out_name[i], fusion[k]);
            for (int64_t c = 0; bad && c < dan_cols(a); c++)
                assert_int_equal(isfinite(((const float *)a->data)[c]), isfinite(((const float *)b->data)[c]));
        }
    for (int k = 0; k < 3; k++) {
        dan_program_free(p[k]);
        dan_graph_free(g[k]);
    }
    dan_store_free(s);
    dan_pool_free(pool);
    dan_free(x);
    return rounds;
}

static void no_bit_changes(void **state)
{
    static const char *const isa[] = {"scalar", "avx2", "avx512"};
    static const int threads[] = {1, 2, 3, 7};
    int n_rounded = 0;
    (void)state;
    for (int k = 0; dan_dtypes[k]; k++) {
        const struct dan_dtype *t = dan_dtypes[k];
        if ((t->block == 1 && t != &dan_dtype_i8) || !t->to_f32 || !t->from_f32) continue;
        for (int i = 0; i < 3; i++)
            for (int n = k % 2; n < 4; n += 2)
                n_rounded += compare_networks(&(struct setting){t, (k / 2 + i + n / 2) % 2, dan_isa_mask(isa[i]), threads[n]}, false);
    }
    assert_true(n_rounded >= 2 * 9);           /* plain C alone rounds for 9 formats */
}

static void bad_numbers_stay_bad(void **state)
{
    (void)state;
    compare_networks(&(struct setting){&dan_dtype_q8_0, false, 0, 2}, true);
    compare_networks(&(struct setting){&dan_dtype_q4_0, true, 0, 2}, true);
    compare_networks(&(struct setting){&dan_dtype_i8, false, 0, 2}, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules_say_why), cmocka_unit_test(nothing_is_rounded_unasked), cmocka_unit_test(no_bit_changes),
                                       cmocka_unit_test(bad_numbers_stay_bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
