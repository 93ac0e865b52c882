/* Adapters inside the rounding of quantisation-aware training, by every method: their gradients are those of the merged weight, the soft staircase's those of
 * differences; what is exported is what evaluation saw; a run that goes on ends with the same bits; scales are set, learn, and rest. */
#include <stdio.h>
#include "align/test_tuner.h"
#include "align/tuner_state.h"
#include "core/half.h"
#include "core/rounded.h"
#include "exec/exec.h"
#include "io/safetensors.h"
#include "quant/export.h"

struct kind { const char *scheme, *method; int64_t group; };
static const struct kind kinds[] = {{"w4a8", "ste", -1},     {"w8a8", "ste", -1}, {"w4", "ste", -1},  {"w3", "clipped-ste", 32}, {"w4a8", "pact", 32},      {"w8a8", "pact", 0},
                                    {"w4a8", "lsq", 32},     {"w8", "lsq", 32},   {"w2", "lsq", 32},  {"w3", "dsq", 32},         {"w4a8", "quantnoise", 32}, {"w8a8", "quantnoise", 0},
                                    {"w4", "dsq-soft", 32}};
enum { N_KINDS = sizeof kinds / sizeof *kinds, SOFT = N_KINDS - 1 };

static struct dan_qat_opts qat_of(const struct kind *k)
{
    struct dan_qat_opts q;
    struct dan_err e = {0};
    if (dan_qat_policy(k->scheme, k->method, k->group, false, &q, &e)) fail_msg("%s", e.msg);
    return q;
}

static struct dan_tuner *tuner_for(struct dan_lm *lm, const struct dan_qat_opts *q, const char *fusion)
{
    return tuner_of(lm, (struct dan_tuner_opts){.qat = *q, .pass = {.fusion = fusion}, .seed = 9});
}

static const float *sum_of(struct dan_tuner *t, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "sum:%s", name);
    const struct dan_tensor *s = dan_store_find(dan_tuner_state(t), full);
    if (!s) fail_msg("nothing learns by the name '%s'", name);
    return s->data;
}

static void add_pack(struct dan_tuner *t)
{
    struct dan_packed p = packed();
    struct dan_err e = {0};
    if (dan_tuner_add(t, &p, NULL, &e)) fail_msg("%s", e.msg);
    dan_packed_release(&p);
}

static void near_to(const char *what, const struct kind *k, double got, double want, double scale)
{
    if (!(fabs(got - want) <= 2e-4 * scale + 1e-7)) fail_msg("%s of %s %s: %g, not %g", what, k->scheme, k->method, got, want);
}

/* A [r,in] gets s B^T G, B [out,r] gets s G A^T, G being what the merged weight gets when it learns itself, by the same rounding. */
static void test_gradient_is_the_merged_weights(void **state)
{
    (void)state;
    static const char *const names[] = {"blk.0.attn_v.weight", "blk.0.ffn_down.weight"};
    for (int i = 0; i < N_KINDS; i++) {
        const struct dan_qat_opts q = qat_of(&kinds[i]);
        struct dan_lm lm = lm_of("llama", 32, 1), whole;
        struct dan_err e = {0};
        add(&lm, false, true);
        struct dan_tuner *t = tuner_for(&lm, &q, "off");
        if (dan_tuner_merged(&lm, &whole, &e)) fail_msg("%s", e.msg);
        struct dan_tuner *u = tuner_for(&whole, &q, "off");
        add_pack(t);
        add_pack(u);
        for (int k = 0; k < 2; k++) {
            char a_name[80], b_name[80], step[80];
            snprintf(a_name, sizeof a_name, "%s@default.lora_a", names[k]);
            snprintf(b_name, sizeof b_name, "%s@default.lora_b", names[k]);
            snprintf(step, sizeof step, "%s.step", names[k]);
            const struct dan_tensor *a = dan_store_find(lm.store, a_name), *b = dan_store_find(lm.store, b_name);
            const float *g = sum_of(u, names[k]), *da = sum_of(t, a_name), *db = sum_of(t, b_name), *av = a->data, *bv = b->data;
            const int64_t rank = a->shape.d[0], in = a->shape.d[1], out = b->shape.d[0];
            const double s = lm.adapter[0].scale;
            double top = 0;
            for (int64_t x = 0; x < out * in; x++) top = fmax(top, fabs((double)g[x]));
            assert_true(top > 0);
            for (int64_t r = 0; r < rank; r++) {
                double wa = 0, wb = 0;
                for (int64_t o = 0; o < out; o++) wa += s * (double)bv[o * rank + r] * (double)g[o * in + 5];
                for (int64_t c = 0; c < in; c++) wb += s * (double)g[3 * in + c] * (double)av[r * in + c];
                near_to(a_name, &kinds[i], (double)da[r * in + 5], wa, top);
                near_to(b_name, &kinds[i], (double)db[3 * rank + r], wb, top);
            }
            if (!dan_quant_learns(&q.policy)) continue;
            const float *x = sum_of(t, step), *y = sum_of(u, step);
            double most = 0;
            for (int64_t j = 0, n = dan_shape_count(&dan_store_find(lm.store, step)->shape); j < n; j++) most = fmax(most, fabs((double)y[j]));
            assert_true(most > 0 || q.policy.method == DAN_QAT_PACT);    /* of which nothing may be clipped */
            for (int64_t j = 0; j < 4; j++) near_to(step, &kinds[i], (double)x[j], (double)y[j], most);
        }
        dan_tuner_free(t);
        dan_tuner_free(u);
        dan_lm_release(&lm);
        dan_lm_release(&whole);
    }
}

/* The soft staircase is smooth: A, B, its steps and its slope against differences of the loss. */
static void test_soft_gradient_is_that_of_differences(void **state)
{
    (void)state;
    static const char *const names[] = {"blk.0.attn_v.weight@default.lora_a", "blk.0.attn_v.weight@default.lora_b", "blk.0.attn_v.weight.step", "blk.0.attn_v.weight.slope"};
    const struct dan_qat_opts q = qat_of(&kinds[SOFT]);
    struct dan_lm lm = lm_of("llama", 32, 1);
    add(&lm, false, true);
    struct dan_tuner *t = tuner_for(&lm, &q, NULL);
    struct dan_packed p = packed();
    add_pack(t);
    for (int k = 0; k < 4; k++) {
        const struct dan_tensor *x = dan_store_find(lm.store, names[k]);
        const float *g = sum_of(t, names[k]);
        int64_t most = 0;
        for (int64_t i = 0; i < dan_shape_count(&x->shape); i++)
            if (fabsf(g[i]) > fabsf(g[most])) most = i;
        float *w = (float *)x->data + most;
        if (k == 2) *w = dan_f16_to_f32(dan_f32_to_f16(*w));   /* a step is used as f16 keeps it: to the next one */
        const float kept = *w, h = k == 2 ? ldexpf(1, ilogbf(*w) - 10) : 2e-3f;
        *w = kept + h;
        double up = total(t, &p);
        *w = kept - h;
        double slope = (up - total(t, &p)) / (2 * (double)h);
        *w = kept;
        if (fabs((double)g[most] - slope) > 0.05 * fabs(slope) + (k == 2 ? 2e-2 : 1e-3)) fail_msg("%s: %g, slope %g", names[k], (double)g[most], slope);
    }
    dan_packed_release(&p);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

static double learn(struct dan_tuner *t, const struct kind *k, int n)
{
    struct dan_err e = {0};
    double norm;
    for (int s = 0; s < n; s++) {
        add_pack(t);
        if (dan_tuner_step(t, 1e-2, &norm, &e)) fail_msg("%s %s: %s", k->scheme, k->method, e.msg);
    }
    float nll[ROWS];
    double sum = 0;
    int64_t rows = score(t, false, nll);
    for (int64_t i = 0; i < rows; i++) sum += (double)nll[i];
    return sum / (double)rows;
}

/* Do the kernels of this CPU round what every product of integers reads?  Where a format has none, its inputs stay floats. */
static bool rounds_inputs(struct dan_lm *lm)
{
    struct dan_io io = {.max_rows = 1, .logits = true, .max_select = 1};
    struct dan_pass_opts p = {0};
    struct dan_exec_choice choice = dan_exec_choice_of(&(struct dan_exec_opts){0});
    struct dan_graph *g = NULL;
    struct dan_err e = {0};
    bool all = true;
    if (dan_lm_graph(lm, &io, DAN_PIPELINE_INFER, &p, &g, &e)) fail_msg("%s", e.msg);
    for (int32_t i = 1; i < g->n; i++) {
        if (!dan_op_is(&g->node[i], "matmul")) continue;
        const struct dan_dtype *w = g->node[g->node[i].in[1]].dtype;
        all = all && ((w != &dan_dtype_i8 && w->block == 1) || dan_exec_rounds(&choice, g, i) != DAN_ROUNDED_NOT);
    }
    dan_graph_free(g);
    return all;
}

/* What learned is, merged and exported, the model of integers.  Where one of the two rounds activations to 8 bits and the other does not, that is between them:
 * about .001 for this model. */
static void test_exported(void **state)
{
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        const struct dan_qat_opts q = qat_of(&kinds[k]);
        struct dan_lm lm = lm_of("llama", 32, 1), whole, integers = {0};
        struct dan_err e = {0};
        struct dan_exported x;
        float rounded[ROWS], exported[ROWS], plain[ROWS];
        add(&lm, false, true);
        struct dan_tuner *t = tuner_for(&lm, &q, NULL);
        double first = learn(t, &kinds[k], 0), last = learn(t, &kinds[k], 10);
        if (!(last < 0.95 * first)) fail_msg("%s %s: loss %g, then %g", kinds[k].scheme, kinds[k].method, first, last);
        int64_t n = score(t, false, rounded);
        dan_tuner_free(t);
        if (dan_tuner_merged(&lm, &whole, &e) || dan_qat_export(&whole, &q.policy, &integers, &x, &e)) fail_msg("%s %s: %s", kinds[k].scheme, kinds[k].method, e.msg);
        assert_true(x.matrices == 7);
        score_lm(&whole, plain);
        score_lm(&integers, exported);
        double off = 0, gap = 0;
        for (int64_t i = 0; i < n; i++) {
            off += fabs((double)rounded[i] - (double)exported[i]) / (double)n;
            gap += fabs((double)rounded[i] - (double)plain[i]) / (double)n;
        }
        bool alike = q.policy.act_bits && rounds_inputs(&integers);
        if (!(off < (alike ? 1e-5 : 0.1 * gap + 2e-3))) fail_msg("%s %s: %g from the exported model, %g from the float one", kinds[k].scheme, kinds[k].method, off, gap);
        dan_lm_release(&lm);
        dan_lm_release(&whole);
        dan_lm_release(&integers);
    }
}

struct side { struct dan_lm lm; struct dan_tuner *t; };

static void start(struct side *s, const struct kind *k)
{
    const struct dan_qat_opts q = qat_of(k);
    s->lm = lm_of("llama", 32, 1);
    add(&s->lm, false, false);
    s->t = tuner_for(&s->lm, &q, NULL);
    dan_tuner_rest_scales(s->t, 5);
}

static void release(struct side *s)
{
    dan_tuner_free(s->t);
    dan_lm_release(&s->lm);
}

static struct dan_store *gathered(struct side *s)
{
    struct dan_store *out = NULL;
    struct dan_err e = {0};
    if (dan_store_new(&out, &e) || dan_tuner_gather(s->t, &s->lm, "", out, &e)) fail_msg("%s", e.msg);
    return out;
}

static void test_goes_on_to_the_same_bits(void **state)
{
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        struct side one, first, second;
        struct dan_err e = {0};
        start(&one, &kinds[k]);
        start(&first, &kinds[k]);
        start(&second, &kinds[k]);
        learn(one.t, &kinds[k], 7);
        learn(first.t, &kinds[k], 3);
        struct dan_store *from = gathered(&first), *into = gathered(&second), *want = gathered(&one);
        if (dan_store_restore(into, from, &e)) fail_msg("%s", e.msg);
        dan_tuner_set_steps(second.t, 3);
        learn(second.t, &kinds[k], 4);
        bool scales = false;
        for (size_t i = 0; i < dan_store_count(want); i++) {
            const struct dan_tensor *a = dan_store_find(into, dan_store_name(want, i)), *b = dan_store_at(want, i);
            if (!a || memcmp(a->data, b->data, dan_tensor_bytes(b))) fail_msg("%s %s: '%s' has other bits", kinds[k].scheme, kinds[k].method, dan_store_name(want, i));
            scales |= dan_qat_is_param(dan_store_name(want, i));
        }
        const struct dan_qat_opts q = qat_of(&kinds[k]);
        assert_int_equal(scales, dan_quant_learns(&q.policy));
        dan_store_free(from);
        dan_store_free(into);
        dan_store_free(want);
        release(&one);
        release(&first);
        release(&second);
    }
}

/* Learned scales move until they rest; those of clipped-ste never do; a second tuner of the same weights leaves them. */
static void test_scales_learn_and_rest(void **state)
{
    (void)state;
    static const struct kind learnt = {"w4a8", "lsq", 32}, fixed = {"w3", "clipped-ste", 32};
    struct side a, b;
    start(&a, &learnt);
    start(&b, &fixed);
    const float *x = dan_store_find(a.lm.store, "blk.0.ffn_up.weight.step")->data, *y = dan_store_find(b.lm.store, "blk.0.ffn_up.weight.step")->data;
    const float x0 = *x, y0 = *y;
    assert_true(x0 > 0 && y0 > 0);
    learn(a.t, &learnt, 5);
    const float x1 = *x;
    assert_true(x1 != x0);
    learn(a.t, &learnt, 3);
    assert_true(*x == x1);
    learn(b.t, &fixed, 3);
    assert_true(*y == y0);
    const struct dan_qat_opts q = qat_of(&learnt);
    dan_tuner_free(tuner_of(&a.lm, (struct dan_tuner_opts){.qat = q, .frozen = true}));
    assert_true(*(const float *)dan_store_find(a.lm.store, "blk.0.ffn_up.weight.step")->data == x1);
    release(&a);
    release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradient_is_the_merged_weights), cmocka_unit_test(test_soft_gradient_is_that_of_differences), cmocka_unit_test(test_exported),
                                       cmocka_unit_test(test_goes_on_to_the_same_bits), cmocka_unit_test(test_scales_learn_and_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
