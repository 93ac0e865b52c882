/* Pass fake_quant: which products are rounded, what is added, and what stays as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/err.h"
#include "pass/fake_quant.h"
#include "op/fake_quant.h"
#include "pass/pass.h"

/* q, k of one input, a second product of another; a head that is the embedding. */
static struct dan_graph *model(struct dan_builder *b)
{
    struct dan_graph *g = dan_graph_new();
    assert_non_null(g);
    dan_builder_init(b, g);
    dan_ref ids = dan_input(b, "ids", &dan_dtype_i32, DAN_SHAPE(6), 1), table = dan_param(b, "token_embd.weight", &dan_dtype_f32, DAN_SHAPE(10, 64), "zeros");
    dan_ref x = dan_embed(b, table, ids);
    dan_ref q = dan_linear(b, x, dan_param(b, "blk.0.q", &dan_dtype_f32, DAN_SHAPE(8, 64), "zeros"), 0);
    dan_ref k = dan_linear(b, x, dan_param(b, "blk.0.k", &dan_dtype_f32, DAN_SHAPE(8, 64), "zeros"), 0);
    dan_ref y = dan_linear(b, dan_add(b, q, k), dan_param(b, "blk.0.o", &dan_dtype_f32, DAN_SHAPE(64, 8), "zeros"), 0);
    dan_output(b, "loss", dan_sum_all(b, dan_linear(b, dan_add(b, x, y), table, 0)));
    return g;
}

static int count(const struct dan_graph *g, const char *op)
{
    int n = 0;
    for (int32_t i = 1; i < g->n; i++) n += dan_op_is(&g->node[i], op);
    return n;
}

static struct dan_graph *quantised(const struct dan_quant_policy *p, const char *pipeline)
{
    struct dan_builder b;
    struct dan_err e = {0};
    struct dan_graph *g = model(&b);
    const struct dan_pass_opts o = {.quant = p};
    if (dan_builder_check(&b, &e) || dan_run_passes(g, pipeline, &o, &e)) fail_msg("%s", e.msg);
    return g;
}

static void nothing_without_a_policy(void **state)
{
    (void)state;
    struct dan_graph *g = quantised(NULL, "fake_quant,dce");
    for (int32_t i = 1; i < g->n; i++) assert_true(strncmp(g->node[i].op->name, "fake", 4) != 0);
    dan_graph_free(g);
}

/* The group of "blk.0.o" must divide 8. */
static void weights_and_inputs_once_each(void **state)
{
    (void)state;
    struct dan_quant_policy p = {.method = DAN_QAT_STE, .weight_bits = 8, .act_bits = 8};
    struct dan_graph *g = quantised(&p, "fake_quant,dce");
    assert_int_equal(count(g, "fake_quant"), 3 + 2);           /* q, k, o; x, q + k */
    dan_graph_free(g);
    g = quantised(&p, "fuse_horizontal,fake_quant,dce");
    assert_int_equal(count(g, "fake_quant"), 2 + 2);
    dan_graph_free(g);
}

static void steps_are_joined_with_their_weights(void **state)
{
    (void)state;
    struct dan_quant_policy p = {.method = DAN_QAT_LSQ, .weight_bits = 4, .act_bits = 4, .group = 8, .act_static = true};
    struct dan_graph *g = quantised(&p, "fuse_horizontal,fake_quant,autodiff,dce");
    dan_ref s = dan_leaf(g, "blk.0.q.step+blk.0.k.step"), x = dan_leaf(g, "blk.0.q.input_step");
    assert_true(s && x && dan_leaf(g, "blk.0.o.step") && dan_leaf(g, "blk.0.o.input_step"));
    assert_true(g->node[s].shape.n == 2 && g->node[s].shape.d[0] == 16 && g->node[s].shape.d[1] == 8);
    assert_true(dan_output_ref(g, "grad:blk.0.q.step+blk.0.k.step") && dan_output_ref(g, "grad:blk.0.o.input_step"));
    assert_false(dan_leaf(g, "token_embd.weight.step"));
    dan_graph_free(g);
    p.method = DAN_QAT_CLIPPED;
    g = quantised(&p, "fake_quant,autodiff,dce");
    assert_true(dan_leaf(g, "blk.0.k.step") && dan_leaf(g, "blk.0.q.input_step") && !dan_leaf(g, "blk.0.k.input_step"));
    assert_false(dan_output_ref(g, "grad:blk.0.k.step"));      /* fixed */
    assert_true(dan_output_ref(g, "grad:blk.0.k") != 0);
    dan_graph_free(g);
}

static void chance_only_in_training(void **state)
{
    (void)state;
    struct dan_quant_policy p = {.method = DAN_QAT_NOISE, .weight_bits = 4, .group = 8, .rate = 0.5};
    struct dan_graph *g = quantised(&p, "fake_quant,dce");
    assert_int_equal(count(g, "quant_noise"), 3);
    assert_true(dan_leaf(g, "seed") != 0);
    dan_graph_free(g);
    p.hard = true;
    g = quantised(&p, "fake_quant,dce");
    assert_int_equal(count(g, "quant_noise"), 0);
    assert_int_equal(count(g, "fake_quant"), 3);
    dan_graph_free(g);
}

static void groups_that_do_not_divide_are_named(void **state)
{
    (void)state;
    struct dan_builder b;
    struct dan_err e = {0};
    struct dan_quant_policy p = {.method = DAN_QAT_STE, .weight_bits = 4, .group = 32};
    const struct dan_pass_opts o = {.quant = &p};
    struct dan_graph *g = model(&b);
    assert_int_not_equal(dan_run_passes(g, "fuse_horizontal,fake_quant", &o, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "'blk.0.o'"));
    dan_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_without_a_policy), cmocka_unit_test(weights_and_inputs_once_each),
        cmocka_unit_test(steps_are_joined_with_their_weights), cmocka_unit_test(chance_only_in_training),
        cmocka_unit_test(groups_that_do_not_divide_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
