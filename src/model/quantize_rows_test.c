/* Scales per row: what is replaced and refused, levels and errors, the graph's inputs, and the compressed-tensors folder. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "model/quantize_rows.h"

static struct dan_err e;
#define OK(call) do { if (call) fail_msg("%s", e.msg); } while (0)
#define FAILS(call, word) do { e = (struct dan_err){0}; assert_true(call); if (!strstr(e.msg, word)) fail_msg("'%s' does not say '%s'", e.msg, word); e = (struct dan_err){0}; } while (0)

static const char *const FORMATS[] = {"int8", "int8_asym", "int8_tensor", "f8"};

static struct dan_lm new_lm(bool tied)
{
    struct dan_lm_config cfg = {.vocab = 50, .context = 32, .hidden = 48, .layers = 2, .heads = 4, .kv_heads = 2, .tied = tied, .bos = -1, .eos = -1};
    struct dan_lm lm;
    OK(dan_lm_init(&lm, dan_model_find("llama"), &cfg, 5, &e));
    return lm;
}

static struct dan_rows_format format(const char *name)
{
    struct dan_rows_format f;
    OK(dan_rows_format_find(name, &f, &e));
    return f;
}

/* Every matrix that can; returns how many. */
static int quantize(struct dan_lm *lm, const char *name, double *worst)
{
    const struct dan_rows_format f = format(name);
    struct dan_io io = {.max_rows = 1, .logits = true, .max_select = 1};
    struct dan_graph *g;
    int n = 0;
    OK(dan_lm_graph(lm, &io, "", NULL, &g, &e));
    for (int32_t i = 1; i < g->n; i++) {
        double error;
        if (!dan_op_is(&g->node[i], "param") || dan_rows_why_not(lm, g, g->node[i].name, &f)) continue;
        OK(dan_lm_quantize_rows(lm, g->node[i].name, &f, &error, &e));
        if (worst && error > *worst) *worst = error;
        n++;
    }
    dan_graph_free(g);
    return n;
}

static void which_are_replaced(void **state)
{
    (void)state;
    static const double most[] = {0.012, 0.012, 0.014, 0.04};
    for (int k = 0; k < 4; k++) {
        struct dan_lm lm = new_lm(k % 2);
        int64_t n = dan_lm_n_params(&lm);
        double worst = 0;
        assert_int_equal(quantize(&lm, FORMATS[k], &worst), 14 + !(k % 2));            /* q k v o gate up down, twice; a head of its own */
        assert_true(worst > 0.001 && worst < most[k]);
        assert_int_equal(dan_lm_n_params(&lm), n);
        assert_int_equal(quantize(&lm, FORMATS[k], NULL), 0);
        dan_lm_release(&lm);
    }
}

static void refusals(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm(true);
    const struct dan_rows_format f = format("int8");
    float scale[48] = {0}, *w = dan_store_find(lm.store, "blk.0.attn_k.weight")->data;
    FAILS(dan_lm_quantize_rows(&lm, "token_embd.weight", &f, NULL, &e), "tied");
    FAILS(dan_lm_quantize_rows(&lm, "blk.0.attn_norm.weight", &f, NULL, &e), "a vector");
    FAILS(dan_lm_quantize_rows(&lm, "nothing", &f, NULL, &e), "not in the model");
    w[48 + 3] = NAN;
    FAILS(dan_lm_quantize_rows(&lm, "blk.0.attn_k.weight", &f, NULL, &e), "row 1 of");
    assert_ptr_equal(dan_store_find(lm.store, "blk.0.attn_k.weight")->dtype, &dan_dtype_f32);
    FAILS(dan_lm_quantize_rows(&lm, "blk.0.attn_q.weight", &(struct dan_rows_format){.to = &dan_dtype_i8, .scale = scale}, NULL, &e), "positive");
    FAILS(dan_lm_set_input_scale(&lm, "blk.0.attn_q.weight", 0.1f, 0, &e), "quantise it before");
    OK(dan_lm_quantize_rows(&lm, "blk.0.attn_q.weight", &f, NULL, &e));
    FAILS(dan_lm_quantize_rows(&lm, "blk.0.attn_q.weight", &f, NULL, &e), "already");
    FAILS(dan_lm_set_input_scale(&lm, "blk.0.attn_q.weight", 0, 0, &e), "positive");
    FAILS(dan_lm_set_input_scale(&lm, "blk.0.attn_q.weight", 1, 0.5f, &e), "whole number");
    struct dan_rows_format none;
    FAILS(dan_rows_format_find("int7", &none, &e), "int8_asym");
    dan_lm_release(&lm);
}

/* Symmetric: the largest is +-127, the step max / 127.  Asymmetric: 0 is a level, both ends fit. */
static void levels_of_a_row(void **state)
{
    (void)state;
    const float w[] = {-1.f, 0.f, 0.25f, 3.f, 0.004f};
    int8_t q[5];
    float scale, zero;
    struct dan_rows_format f = format("int8");
    dan_row_scale(&f, w, 5, &scale, &zero);
    dan_row_levels(&f, w, 5, scale, zero, q);
    assert_true(scale == 3.f / 127 && zero == 0 && q[0] == -42 && q[1] == 0 && q[3] == 127);
    f = format("int8_asym");
    dan_row_scale(&f, w, 5, &scale, &zero);
    dan_row_levels(&f, w, 5, scale, zero, q);
    assert_true(zero == rintf(zero) && (float)q[1] == zero && q[0] == -128 && q[3] == 127);
    for (int i = 0; i < 5; i++) assert_true(fabsf(scale * ((float)q[i] - zero) - w[i]) <= scale * 0.5001f);
    const float nothing[3] = {0};
    dan_row_scale(&f, nothing, 3, &scale, &zero);
    dan_row_levels(&f, nothing, 3, scale, zero, q);
    assert_true(scale == 1 && (float)q[0] == zero);
}

/* q, k and v have the same input: with equal input scales they are one product, with different ones three. */
static void graphs_get_the_scales(void **state)
{
    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        struct dan_lm lm = new_lm(true);
        struct dan_io io = {.max_rows = 4, .logits = true, .max_select = 1, .cache_rows = 8};
        struct dan_graph *g;
        int joined = 0, scaled = 0, fixed = 0;
        quantize(&lm, "int8_asym", NULL);
        static const char *const three[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"};
        for (int k = 0; k < 3; k++) OK(dan_lm_set_input_scale(&lm, three[k], 0.1f + (float)(apart * k), 0, &e));
        OK(dan_lm_graph(&lm, &io, DAN_PIPELINE_INFER, NULL, &g, &e));
        for (int32_t i = 1; i < g->n; i++) {
            const struct dan_node *n = &g->node[i];
            if (!dan_op_is(n, "matmul") || !n->in[DAN_MATMUL_SCALE]) continue;
            assert_true(n->in[DAN_MATMUL_ZERO] != 0);
            scaled++;
            fixed += n->in[DAN_MATMUL_INPUT_SCALE] != 0;
            joined += strchr(g->node[n->in[1]].name, '+') != NULL;
        }
        assert_int_equal(scaled, apart ? 10 : 8);              /* qkv or q, k, v; qkv; o gate+up down twice */
        assert_int_equal(joined, apart ? 3 : 4);
        assert_int_equal(fixed, apart ? 3 : 1);
        dan_graph_free(g);
        dan_lm_release(&lm);
    }
}

static void same_store(const struct dan_store *a, const struct dan_store *b)
{
    assert_int_equal(dan_store_count(a), dan_store_count(b));
    for (size_t i = 0; i < dan_store_count(a); i++) {
        const struct dan_tensor *x = dan_store_at(a, i), *y = dan_store_find(b, dan_store_name(a, i));
        if (!y) fail_msg("'%s' did not come back", dan_store_name(a, i));
        assert_ptr_equal(x->dtype, y->dtype);
        assert_true(dan_shape_equal(&x->shape, &y->shape));
        if (memcmp(x->data, y->data, dan_tensor_bytes(x))) fail_msg("'%s' came back with other bytes", dan_store_name(a, i));
    }
}

static void replace_in_config(const char *dir, const char *from, const char *to)
{
    struct dan_str path = {0}, out = {0};
    char *text;
    size_t n;
    dan_str_printf(&path, "%s/config.json", dir);
    OK(dan_read_file(path.p, &text, &n, &e));
    char *at = strstr(text, from);
    if (!at) fail_msg("no '%s' in %s", from, text);
    dan_str_printf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    OK(dan_write_file(path.p, out.p, out.n, &e));
    free(text);
    dan_str_release(&path);
    dan_str_release(&out);
}

/* Saved and loaded: the same bits; with writable weights: the numbers they stand for. */
static void folders(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        char dir[] = "/tmp/danlu-rows-XXXXXX";
        struct dan_lm lm = new_lm(k % 2), back, floats;
        assert_non_null(mkdtemp(dir));
        quantize(&lm, FORMATS[k], NULL);
        if (k != 3) OK(dan_lm_set_input_scale(&lm, "blk.1.ffn_down.weight", 0.25f, k == 1 ? -3 : 0, &e));
        OK(dan_lm_save(&lm, dir, &e));
        OK(dan_lm_load(&back, dir, false, &e));
        same_store(lm.store, back.store);
        OK(dan_lm_load(&floats, dir, true, &e));
        const struct dan_tensor *w = dan_store_find(floats.store, "blk.1.ffn_up.weight"), *q = dan_store_find(lm.store, "blk.1.ffn_up.weight");
        const struct dan_tensor *s = dan_store_find(lm.store, "blk.1.ffn_up.weight.scale"), *z = dan_store_find(lm.store, "blk.1.ffn_up.weight.zero");
        float level;
        q->dtype->to_f32((const char *)q->data + 48 + 7, &level, 1);
        assert_true(((const float *)w->data)[48 + 7] == ((const float *)s->data)[1] * (level - (z ? ((const float *)z->data)[1] : 0)));
        assert_false(dan_has_row_scale(floats.store, "blk.1.ffn_up.weight"));
        dan_lm_release(&back);
        dan_lm_release(&floats);
        replace_in_config(dir, "\"num_bits\": 8", "\"num_bits\": 4");
        FAILS(dan_lm_load(&back, dir, false, &e), "num_bits");
        replace_in_config(dir, "\"num_bits\": 4", "\"num_bits\": 8");
        replace_in_config(dir, "\"channel\"", "\"group\"");
        FAILS(dan_lm_load(&back, dir, false, &e), "strategy");
        replace_in_config(dir, "compressed-tensors", "gptq");
        FAILS(dan_lm_load(&back, dir, false, &e), "quant_method");
        dan_lm_release(&lm);
        dan_remove_tree(dir, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(which_are_replaced), cmocka_unit_test(refusals), cmocka_unit_test(levels_of_a_row),
                                       cmocka_unit_test(graphs_get_the_scales), cmocka_unit_test(folders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
