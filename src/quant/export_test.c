/* The exported integer model computes what the fake-quantised one computed: the same weights bit by bit, logits within rounding.
 *
 * Sums in another order differ in last bits; an input that lies within these of the middle between two levels goes to the other
 * one, and its row differs by about a level.  Rows are sequences of their own here, so that a flip stays in its row. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"
#include "exec/exec.h"
#include "model/quantize_rows.h"
#include "op/fake_quant.h"
#include "quant/export.h"

enum { VOCAB = 61, N = 1000 };

/* Weights as after training: random, with steps for methods that have them. */
static void make_model(struct dan_lm *lm, const struct dan_quant_policy *p, const char *model)
{
    struct dan_err e = {0};
    struct dan_lm_config c = {.vocab = VOCAB, .context = 16, .hidden = 64, .layers = 2, .heads = 4, .ffn = 128, .tied = true, .bias = true, .init_std = 0.1};
    if (dan_lm_init(lm, dan_model_find(model), &c, 5, &e)) fail_msg("%s", e.msg);
    const struct dan_quant_grid q = dan_quant_weight_grid(p);
    for (size_t i = 0, n = dan_store_count(lm->store); i < n; i++) {
        char name[200];
        const char *of = dan_store_name(lm->store, i);
        struct dan_tensor w = *dan_store_at(lm->store, i);
        if (w.shape.n != 2 || strncmp(of, "blk.", 4)) continue;
        int64_t group = q.group ? q.group : w.shape.d[1];
        snprintf(name, sizeof name, "%s.step", of);
        if (dan_quant_has_steps(p) && dan_store_add(lm->store, name, &dan_dtype_f32, DAN_SHAPE(w.shape.d[0], w.shape.d[1] / group), &e)) fail_msg("%s", e.msg);
        struct dan_tensor *s = dan_store_find(lm->store, name);
        for (int64_t k = 0; s && k < dan_shape_count(&s->shape); k++) ((float *)s->data)[k] = 0.24f / (float)dan_quant_hi(q.bits) * (1 + 0.01f * (float)(k % 7));
        snprintf(name, sizeof name, "%s.input_step", of);
        if (p->act_static && dan_store_add(lm->store, name, &dan_dtype_f32, DAN_SHAPE(1), &e)) fail_msg("%s", e.msg);
        if (p->act_static) *(float *)dan_store_find(lm->store, name)->data = 0.021f;
    }
}

struct net { struct dan_graph *g; struct dan_program *p; const float *logits; };
static int32_t tokens[N], pos[N], start[N], stop[N], self[N], which[N];

static void run(struct dan_lm *lm, const struct dan_quant_policy *p, struct net *t)
{
    struct dan_err e = {0};
    struct dan_quant_policy hard = {0};
    struct dan_io io = {.max_rows = N, .logits = true, .max_select = N};
    struct dan_pass_opts o = {.quant = p ? &hard : NULL};
    struct dan_exec_opts x = {0};
    *t = (struct net){0};
    if (p) hard = *p;
    hard.hard = true;
    if (dan_lm_graph(lm, &io, DAN_PIPELINE_EVAL, &o, &t->g, &e) || dan_compile(t->g, &x, &t->p, &e) || dan_bind_store(t->p, lm->store, &e)) fail_msg("%s", e.msg);
    struct { const char *name; int32_t *v; } in[] = {{"tokens", tokens}, {"pos", pos}, {"start", start}, {"stop", stop}, {"self", self}, {"select", which}};
    for (int i = 0; i < 6; i++) {
        struct dan_tensor v = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(N), in[i].v);
        if (dan_leaf(t->g, in[i].name) && dan_bind(t->p, in[i].name, &v, &e)) fail_msg("%s", e.msg);
    }
    if (dan_run(t->p, &e)) fail_msg("%s", e.msg);
    t->logits = dan_result_named(t->p, "logits")->data;
}

static void net_free(struct net *t)
{
    dan_program_free(t->p);
    dan_graph_free(t->g);
}

/* Products with these weights have integer kernels here; the reference and the f32 kernels keep their inputs in float. */
static bool rounds_inputs(const struct net *t)
{
    bool all = true;
    for (int32_t i = 1; i < t->g->n; i++) {
        const struct dan_node *n = &t->g->node[i];
        if (!dan_op_is(n, "matmul") || t->g->node[n->in[1]].dtype == &dan_dtype_f32) continue;
        const bool fixed = n->n_in > DAN_MATMUL_INPUT_SCALE && n->in[DAN_MATMUL_INPUT_SCALE];
        const char *kernel = dan_program_kernel(t->p, i);
        all = all && (fixed || (strcmp(kernel, "ref") && strncmp(kernel, "matmul_f32", 10)));
    }
    return all;
}

static int top_of(const float *x)
{
    int best = 0;
    for (int i = 1; i < VOCAB; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

struct difference { double range, worst; int flipped, other_top, unexplained; };
static struct difference compare(const float *a, const float *b)
{
    struct difference d = {0};
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < N * VOCAB; i++) {
        lo = fmin(lo, (double)a[i]);
        hi = fmax(hi, (double)a[i]);
    }
    d.range = hi - lo;
    for (int i = 0; i < N; i++, a += VOCAB, b += VOCAB) {
        double row = 0;
        for (int j = 0; j < VOCAB; j++) row = fmax(row, fabs((double)a[j] - (double)b[j]));
        const int x = top_of(a), y = top_of(b);
        d.worst = fmax(d.worst, row);
        d.flipped += row > 1e-5 * d.range;
        d.other_top += x != y;
        d.unexplained += x != y && (double)a[x] - (double)a[y] > 2 * row;
    }
    return d;
}

static const struct { struct dan_quant_policy p; const char *format, *what; } kinds[] = {
    {{.method = DAN_QAT_STE, .weight_bits = 8, .act_bits = 8}, NULL, "w8a8 ste"},
    {{.method = DAN_QAT_LSQ, .weight_bits = 8, .act_bits = 8}, NULL, "w8a8 lsq"},
    {{.method = DAN_QAT_LSQ, .weight_bits = 8, .act_bits = 8, .act_static = true}, NULL, "w8a8 lsq static"},
    {{.method = DAN_QAT_STE, .weight_bits = 8, .act_bits = 8, .group = 32, .act_group = 32}, "q8_0", "w8a8 q8_0"},
    {{.method = DAN_QAT_PACT, .weight_bits = 8, .act_bits = 8, .group = 32, .act_group = 32}, NULL, "w8a8 q8_0 pact"},
    {{.method = DAN_QAT_STE, .weight_bits = 4, .act_bits = 8, .group = 32, .act_group = 32}, "i4_g32", "w4a8 ste"},
    {{.method = DAN_QAT_LSQ, .weight_bits = 4, .act_bits = 8, .group = 64, .act_group = 32}, NULL, "w4a8 lsq"},
    {{.method = DAN_QAT_STE, .weight_bits = 3, .act_bits = 8, .group = 32, .act_group = 32}, NULL, "w3 ste"},
    {{.method = DAN_QAT_DSQ, .weight_bits = 2, .act_bits = 8, .group = 32, .act_group = 32}, NULL, "w2 dsq"},
    {{.method = DAN_QAT_NOISE, .weight_bits = 2, .act_bits = 8, .group = 64, .act_group = 32, .rate = 0.5}, NULL, "w2 noise"},
};

static void check_logits(int k, const char *model)
{
    struct dan_quant_policy p = kinds[k].p;
    struct dan_lm lm, out;
    struct dan_err e = {0};
    struct dan_exported x;
    struct net a, b;
    if (kinds[k].format) p.format = dan_dtype_find(kinds[k].format);
    make_model(&lm, &p, model);
    if (dan_qat_export(&lm, &p, &out, &x, &e)) fail_msg("%s: %s", kinds[k].what, e.msg);
    assert_true(x.matrices >= 8 && x.bytes_after < x.bytes_before / 3);
    run(&out, NULL, &b);
    if (!rounds_inputs(&b)) p.act_bits = 0;
    run(&lm, &p, &a);
    struct difference d = compare(a.logits, b.logits);
    if (d.worst > 0.01 * d.range || d.flipped > N / 10 || d.other_top > N / 1000 || d.unexplained || (!p.act_bits && d.flipped))
        fail_msg("%s, %s: logits differ by up to %g of %g, %d rows by a level, %d in their top, %d of them without reason", kinds[k].what, model,
                 d.worst, d.range, d.flipped, d.other_top, d.unexplained);
    net_free(&a);
    net_free(&b);
    dan_lm_release(&out);
    dan_lm_release(&lm);
}

static void logits_are_those_of_training(void **state)
{
    (void)state;
    struct dan_rng r = {.seed = 3};
    for (int i = 0; i < N; i++) {
        tokens[i] = (int32_t)dan_rng_below(&r, VOCAB);
        pos[i] = (int32_t)dan_rng_below(&r, 16);
        start[i] = self[i] = which[i] = i;
        stop[i] = i + 1;
    }
    for (int k = 0; k < (int)(sizeof kinds / sizeof *kinds); k++) {
        check_logits(k, "gpt");
        check_logits(k, "llama");
    }
}

static void levels_are_rounded_latents(void **state)
{
    (void)state;
    struct dan_quant_policy p = kinds[1].p;
    struct dan_lm lm, out;
    struct dan_err e = {0};
    const char *name = "blk.1.attn_k.weight";
    make_model(&lm, &p, "llama");
    if (dan_qat_export(&lm, &p, &out, NULL, &e)) fail_msg("%s", e.msg);
    const struct dan_tensor *w = dan_store_find(lm.store, name), *s = dan_store_find(lm.store, "blk.1.attn_k.weight.step"),
                            *q = dan_store_find(out.store, name), *scale = dan_store_find(out.store, "blk.1.attn_k.weight.scale");
    assert_true(q->dtype == &dan_dtype_i8 && w->dtype == &dan_dtype_f32);
    for (int64_t i = 0; i < w->shape.d[0]; i++)
        for (int64_t j = 0; j < w->shape.d[1]; j++) {
            float step = ((float *)s->data)[i], u = ((float *)dan_row(w, i))[j] / step;
            assert_int_equal(((int8_t *)dan_row(q, i))[j], (int)rintf(fminf(fmaxf(u, -127), 127)));
            assert_true(((float *)scale->data)[i] == step);
        }
    dan_lm_release(&out);
    dan_lm_release(&lm);
}

static void what_cannot_be_exported_is_said(void **state)
{
    (void)state;
    struct dan_quant_policy p = kinds[6].p, plain = kinds[0].p;
    struct dan_lm lm, out;
    struct dan_err e = {0};
    make_model(&lm, &plain, "llama");                                     /* without steps */
    assert_int_not_equal(dan_qat_export(&lm, &p, &out, NULL, &e), DAN_OK);
    assert_non_null(strstr(e.msg, ".step"));
    e = (struct dan_err){0};
    p.group = 48;
    assert_int_not_equal(dan_qat_export(&lm, &p, &out, NULL, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "--qat-group"));
    e = (struct dan_err){0};
    ((float *)dan_store_find(lm.store, "blk.0.attn_q.weight")->data)[3] = NAN;
    assert_int_not_equal(dan_qat_export(&lm, &plain, &out, NULL, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "blk.0.attn_q.weight"));
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_training),
        cmocka_unit_test(levels_are_rounded_latents),
        cmocka_unit_test(what_cannot_be_exported_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
