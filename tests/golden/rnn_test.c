/* LSTM and GRU layers against torch.nn (tests/golden/rnn.safetensors): outputs and all gradients, through
 * scan and autodiff of its body. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "exec/exec.h"
#include "io/safetensors.h"
#include "nn/nn.h"
#include "pass/pass.h"

enum { T = 7, B = 3, IN = 5, HID = 6 };
static struct dan_store *golden;

static int load(void **state)
{
    struct dan_err e = {0};
    const char *dir = getenv("DANLU_GOLDEN");
    char path[300];
    (void)state;
    snprintf(path, sizeof path, "%s/rnn.safetensors", dir ? dir : "tests/golden");
    if (dan_safetensors_open(path, &golden, &e)) fprintf(stderr, "%s\n", e.msg);
    return golden ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    dan_store_free(golden);
    return 0;
}

static const struct dan_tensor *want(const char *group, const char *name)
{
    char full[100];
    snprintf(full, sizeof full, "%s.%s", group, name);
    const struct dan_tensor *t = dan_store_find(golden, full);
    if (!t) fail_msg("no golden tensor %s", full);
    return t;
}

static void near(const char *what, const float *got, const struct dan_tensor *t)
{
    const float *x = t->data;
    for (int64_t i = 0; i < dan_shape_count(&t->shape); i++)
        if (fabsf(got[i] - x[i]) > 1e-5f * (1 + fabsf(x[i]))) fail_msg("%s[%d]: %g, expected %g", what, (int)i, (double)got[i], (double)x[i]);
}

static void put(struct dan_store *s, const char *name, const struct dan_tensor *t, struct dan_shape shape)
{
    struct dan_err e = {0};
    assert_int_equal(dan_store_put(s, name, dan_tensor_of(&dan_dtype_f32, shape, t->data), NULL, &e), 0);
}

static void check(const char *group, enum dan_cell cell, int64_t gates)
{
    struct dan_err e = {0};
    struct dan_builder b;
    struct dan_graph *g = dan_graph_new();
    struct dan_io io = {.max_rows = T * B, .lanes = B};
    dan_builder_init(&b, g);
    dan_ref x = dan_param(&b, "x", &dan_dtype_f32, DAN_SHAPE(T * B, IN), "zeros");
    dan_ref dy = dan_input(&b, "dy", &dan_dtype_f32, DAN_SHAPE(T * B, HID), 0);
    struct dan_lm_in in = {.reset = dan_input(&b, "reset", &dan_dtype_i32, DAN_SHAPE(T * B), 0)};
    dan_ref y = dan_nn_rnn(&b, cell, &io, &in, x, IN, HID);
    dan_output(&b, "y", y);
    dan_output(&b, "loss", dan_sum_all(&b, dan_mul(&b, y, dy)));
    if (dan_builder_check(&b, &e) || dan_run_passes(g, "autodiff,simplify,cse,dce", NULL, &e)) fail_msg("%s", e.msg);
    struct dan_store *s;
    struct dan_program *p;
    assert_int_equal(dan_store_new(&s, &e), 0);
    put(s, "x", want(group, "x"), DAN_SHAPE(T * B, IN));
    put(s, "rnn.weight_ih", want(group, "weight_ih_l0"), DAN_SHAPE(gates * HID, IN));
    put(s, "rnn.weight_hh", want(group, "weight_hh_l0"), DAN_SHAPE(gates * HID, HID));
    put(s, "rnn.bias_ih", want(group, "bias_ih_l0"), DAN_SHAPE(gates * HID));
    put(s, "rnn.bias_hh", want(group, "bias_hh_l0"), DAN_SHAPE(gates * HID));
    int32_t reset[T * B] = {1, 1, 1};
    struct dan_tensor r = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(T * B), reset), d = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(T * B, HID), want(group, "dy")->data);
    if (dan_compile(g, NULL, &p, &e) || dan_bind_store(p, s, &e) || dan_bind(p, "reset", &r, &e) || dan_bind(p, "dy", &d, &e) || dan_run(p, &e)) fail_msg("%s", e.msg);
    near("y", dan_result_named(p, "y")->data, want(group, "y"));
    near("grad x", dan_result_named(p, "grad:x")->data, want(group, "grad.x"));
    near("grad weight_ih", dan_result_named(p, "grad:rnn.weight_ih")->data, want(group, "grad.weight_ih_l0"));
    near("grad weight_hh", dan_result_named(p, "grad:rnn.weight_hh")->data, want(group, "grad.weight_hh_l0"));
    near("grad bias_ih", dan_result_named(p, "grad:rnn.bias_ih")->data, want(group, "grad.bias_ih_l0"));
    near("grad bias_hh", dan_result_named(p, "grad:rnn.bias_hh")->data, want(group, "grad.bias_hh_l0"));
    dan_program_free(p);
    dan_store_free(s);
    dan_graph_free(g);
}

static void lstm(void **state) { (void)state; check("lstm", DAN_CELL_LSTM, 4); }
static void gru(void **state) { (void)state; check("gru", DAN_CELL_GRU, 3); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lstm), cmocka_unit_test(gru)};
    return cmocka_run_group_tests(tests, load, unload);
}
