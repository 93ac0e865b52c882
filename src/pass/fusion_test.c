/* The switch of fusion rules, what rules say, and the origins that rewriting carries. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/str.h"
#include "pass/pass.h"

static const struct dan_pass *pass(const char *name)
{
    for (int i = 0; dan_passes[i]; i++)
        if (!strcmp(dan_passes[i]->name, name)) return dan_passes[i];
    fail_msg("there is no pass '%s'", name);
    return NULL;
}

/* ---- the switch ---------------------------------------------------------------------------- */

static const struct { const char *fusion; bool swiglu, cse; } switches[] = {
    {NULL, true, true},            {"on", true, true},           {"off", false, false},      {"swiglu", true, false},
    {"fuse_swiglu", true, false},  {"cse", false, true},         {"cse,swiglu", true, true}, {"-swiglu", false, true},
    {"-swiglu,-cse", false, false}, {"on,-swiglu", false, true}, {"off,cse", false, true},   {"-fuse_swiglu", false, true},
    {"-swiglu,swiglu", true, true}, {"swiglu,-swiglu", false, false},
};

static void switch_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        struct dan_err e = {0};
        if (dan_fusion_check(switches[i].fusion, &e)) fail_msg("%s: %s", switches[i].fusion, e.msg);
        if (dan_fusion_on(switches[i].fusion, pass("fuse_swiglu")) != switches[i].swiglu ||
            dan_fusion_on(switches[i].fusion, pass("cse")) != switches[i].cse)
            fail_msg("'%s' switches other rules", switches[i].fusion);
        assert_true(dan_fusion_on(switches[i].fusion, pass("autodiff")) && dan_fusion_on(switches[i].fusion, pass("dce")));
    }
}

static void switch_refuses(void **state)
{
    static const char *const bad[] = {"", "yes", "autodiff", "-on", "--swiglu", "fuse_", "swiglu cse", "on,nosuch"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_err e = {0};
        if (dan_fusion_check(bad[i], &e) != DAN_EUSAGE) fail_msg("'%s' is taken", bad[i]);
        assert_true(!*bad[i] || strstr(e.msg, "swiglu") != NULL);                  /* the rules are listed */
    }
}

/* An approximation runs only when it is named. */
static void approximations_are_off(void **state)
{
    const struct dan_pass e3 = {.name = "fuse_fast", .exact = DAN_E3};
    (void)state;
    assert_false(dan_fusion_on(NULL, &e3) || dan_fusion_on("on", &e3) || dan_fusion_on("off", &e3) || dan_fusion_on("-swiglu", &e3));
    assert_true(dan_fusion_on("fast", &e3) && dan_fusion_on("on,fuse_fast", &e3));
}

static void every_rule_is_described(void **state)
{
    (void)state;
    for (int i = 0; dan_passes[i]; i++) {
        const struct dan_pass *p = dan_passes[i];
        if (dan_str_starts(p->name, "fuse_") && !p->exact) fail_msg("'%s' has no class", p->name);
        if (p->exact && (!p->needs || !*p->needs)) fail_msg("'%s' does not say what it needs", p->name);
    }
}

static void classes(void **state)
{
    const struct dan_pass p = {.name = "fuse_x", .exact = DAN_E0, .exact_grad = DAN_E1},
                          q = {.name = "place_x", .exact = DAN_E0};
    (void)state;
    assert_int_equal(dan_exactness_of(&p, false, false), DAN_E0);
    assert_int_equal(dan_exactness_of(&p, true, false), DAN_E1);
    assert_int_equal(dan_exactness_of(&p, false, true), DAN_E1);
    assert_int_equal(dan_exactness_of(&q, true, false), DAN_E0);
    assert_int_equal(dan_exactness_of(&q, true, true), DAN_E1);
}

/* ---- what rules say ------------------------------------------------------------------------ */

#define X "%1 = input \"x\" : f32[4,8]\n%2 = param \"a\" : f32[8,8]\n%3 = param \"b\" : f32[8,8]\n%4 = param \"g\" : f32[8]\n"
#define MATMUL(x, w) "matmul(%" #x ", %" #w ", _, _) {ta=0, tb=1, prec=0, act=0}\n"
#define HEAD \
    "%1 = input \"x\" : f32[4,8]\n%2 = param \"w\" : f32[6,8]\n%3 = input \"t\" : i32[4]\n%4 = " MATMUL(1, 2) "%5 = softmax_ce(%4, %3)\n" \
    "output \"y\" = %5\n"

#define BACKWARD(w) \
    "%1 = input \"x\" : f32[4,8]\n%2 = param \"w\" : " w "[6,8]\n%3 = input \"t\" : i32[4]\n%4 = " MATMUL(1, 2) "%5 = softmax_ce(%4, %3)\n" \
    "%6 = input \"d\" : f32[4]\n%7 = softmax_ce_grad(%4, %3, %6)\n%8 = matmul(%7, %2) {ta=0, tb=0}\n%9 = matmul(%7, %1) {ta=1, tb=0}\n" \
    "output \"y\" = %5\noutput \"dx\" = %8\noutput \"dw\" = %9\n"

static const struct note_case { const char *rule, *graph, *says; } cases[] = {
    {"fuse_bias_act", X "%5 = " MATMUL(1, 2) "%6 = act(%5) {kind=2}\noutput \"y\" = %6\n", "5 6: fused"},
    {"fuse_bias_act", X "%5 = " MATMUL(1, 2) "%6 = act(%5) {kind=2}\noutput \"y\" = %6\noutput \"z\" = %5\n",
     "5 6: fused"},
    {"fuse_bias_act", X "%5 = exp(%1)\n%6 = " MATMUL(1, 2) "%7 = add(%5, %6)\noutput \"y\" = %7\noutput \"z\" = %6\n",
     "6 7: an output reads the product, too"},
    {"fuse_bias_act", X "%5 = " MATMUL(1, 2) "%6 = act(%5) {kind=0}\noutput \"y\" = %6\n", "5 6: the activation is none"},
    {"fuse_bias_act", X "%5 = " MATMUL(1, 2) "%6 = act(%5) {kind=2}\n%7 = exp(%5)\noutput \"y\" = %6\noutput \"z\" = %7\n",
     "5 6: fused"},
    {"fuse_bias_act", X "%5 = " MATMUL(1, 2) "%6 = add(%5, %4)\noutput \"y\" = %6\n", "5 6: the addition broadcasts"},
    {"fuse_bias_act", X "%5 = " MATMUL(1, 2) "%6 = exp(%1)\n%7 = add(%5, %6)\noutput \"y\" = %7\n",
     "5 7: the other summand is computed after the product"},
    {"fuse_bias_act", X "%5 = exp(%1)\n%6 = act(%5) {kind=2}\noutput \"y\" = %6\n", ""},
    {"fuse_horizontal", X "%5 = " MATMUL(1, 2) "%6 = " MATMUL(1, 3) "output \"y\" = %5\noutput \"z\" = %6\n", "5 6: fused"},
    {"fuse_horizontal",
     X "%5 = " MATMUL(1, 2) "%6 = " MATMUL(1, 3) "%7 = exp(%3)\noutput \"y\" = %5\noutput \"z\" = %6\noutput \"e\" = %7\n",
     "5 6: another node reads the weights of one"},
    {"fuse_horizontal",
     X "%5 = matmul(%1, %2, %4, _) {ta=0, tb=1, prec=0, act=0}\n%6 = " MATMUL(1, 3) "output \"y\" = %5\noutput \"z\" = %6\n",
     "5 6: one has a bias, one has none"},
    {"fuse_horizontal",
     X "%5 = matmul(%1, %2, _, _) {ta=0, tb=1, prec=1, act=0}\n%6 = " MATMUL(1, 3) "output \"y\" = %5\noutput \"z\" = %6\n",
     "5 6: their precision differs"},
    {"fuse_horizontal", X "%5 = " MATMUL(1, 2) "%6 = exp(%5)\n%7 = " MATMUL(6, 3) "output \"y\" = %7\n", ""},
    {"fuse_swiglu",
     "%1 = input \"x\" : f32[4,8]\n%2 = split(%1) {axis=1, n=2, s0=4, s1=4}\n%3 = pick(%2) {index=0}\n%4 = pick(%2) {index=1}\n%5 = "
     "act(%3) {kind=3}\n"
     "%6 = mul(%5, %4)\noutput \"y\" = %6\n",
     "5 6: fused"},
    {"fuse_swiglu", X "%5 = act(%1) {kind=3}\n%6 = mul(%5, %1)\noutput \"y\" = %6\n",
     "5 6: gate and up are not the first and second half of one product [N,2F]"},
    {"fuse_skip_norm", X "%5 = exp(%1)\n%6 = add(%1, %5)\n%7 = rms_norm(%6, %4) {eps=0.001}\noutput \"y\" = %7\noutput \"s\" = %6\n",
     "6 7: fused"},
    {"fuse_skip_norm", X "%5 = add(%1, %4)\n%6 = rms_norm(%5, %4) {eps=0.001}\noutput \"y\" = %6\n", "5 6: the addition broadcasts"},
    {"fuse_skip_norm", X "%5 = add(%1, %1)\n%6 = exp(%5)\n%7 = rms_norm(%5, %4) {eps=0.001}\noutput \"y\" = %7\noutput \"e\" = %6\n",
     "5 7: exp reads the sum before the norm"},
    {"fuse_head_ce", HEAD, "4 5: the vocabulary of 6 is below 4096"},
    {"fuse_head_ce", BACKWARD("f32"), "4 5: the vocabulary of 6 is below 4096"},
    {"fuse_head_ce", BACKWARD("bf16"), "4 5: the head learns and is stored in another format than its rows"},
    {"cse", X "%5 = exp(%1)\n%6 = exp(%1)\noutput \"y\" = %5\noutput \"z\" = %6\n", "5 6: fused"},
    {"simplify", X "%5 = scale(%1) {by=1}\noutput \"y\" = %5\n", "5: fused"},
};

static void write_note(void *ctx, const struct dan_fusion_note *n)
{
    struct dan_str *s = ctx;
    for (const dan_ref *x = n->node; *x; x++) dan_str_printf(s, "%s%d", x == n->node ? (s->n ? "; " : "") : " ", *x);
    dan_str_printf(s, ": %s", n->why_not ? n->why_not : "fused");
    assert_non_null(n->rule);
}

static void rules_say_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dan_err e = {0};
        struct dan_graph *g;
        struct dan_str said = {0};
        struct dan_pass_opts o = {.note = write_note, .note_ctx = &said};
        if (dan_graph_parse(cases[i].graph, &g, &e) || dan_run_passes(g, cases[i].rule, &o, &e))
            fail_msg("%s, case %zu: %s", cases[i].rule, i, e.msg);
        if (strcmp(dan_str_c(&said), cases[i].says))
            fail_msg("%s, case %zu says '%s', expected '%s'", cases[i].rule, i, dan_str_c(&said), cases[i].says);
        dan_str_release(&said);
        dan_graph_free(g);
    }
}

/* A vocabulary that is large enough. */
static void head_is_fused(void **state)
{
    struct dan_err e = {0};
    struct dan_graph *g;
    struct dan_str said = {0};
    struct dan_pass_opts o = {.note = write_note, .note_ctx = &said, .head_ce_min_vocab = 6};
    (void)state;
    if (dan_graph_parse(HEAD, &g, &e) || dan_run_passes(g, "fuse_head_ce", &o, &e)) fail_msg("%s", e.msg);
    assert_string_equal(dan_str_c(&said), "4 5: fused");
    dan_str_release(&said);
    dan_graph_free(g);
}

/* A rule that is off neither rewrites nor says anything. */
static void off_is_silent(void **state)
{
    struct dan_err e = {0};
    struct dan_graph *g;
    struct dan_str said = {0}, before = {0}, after = {0};
    struct dan_pass_opts o = {.note = write_note, .note_ctx = &said, .fusion = "off"};
    (void)state;
    if (dan_graph_parse(cases[0].graph, &g, &e)) fail_msg("%s", e.msg);
    dan_graph_print(g, &before);
    if (dan_run_passes(g, "fuse_bias_act", &o, &e)) fail_msg("%s", e.msg);
    dan_graph_print(g, &after);
    assert_string_equal(dan_str_c(&before), dan_str_c(&after));
    assert_int_equal(said.n, 0);
    o.fusion = "nosuch";
    assert_int_equal(dan_run_passes(g, "fuse_bias_act", &o, &e), DAN_EUSAGE);
    dan_str_release(&before);
    dan_str_release(&after);
    dan_graph_free(g);
}

/* ---- origins ------------------------------------------------------------------------------- */

/* "matmul 5 6; ..." of all nodes that are no leaf. */
static void put_origins(const struct dan_graph *g, struct dan_str *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        if (g->node[i].op->props & DAN_OP_LEAF) continue;
        dan_str_printf(s, "%s%s", s->n ? "; " : "", g->node[i].op->name);
        assert_non_null(g->node[i].origin);
        for (const dan_ref *o = g->node[i].origin; *o; o++) dan_str_printf(s, " %d", *o);
    }
}

static const struct origin_case { const char *pipeline, *graph, *origins; } origins[] = {
    {"dce", X "%5 = exp(%1)\n%6 = exp(%5)\n%7 = exp(%5)\noutput \"y\" = %7\n", "exp 5; exp 7"},
    {"cse,dce", X "%5 = exp(%1)\n%6 = exp(%1)\n%7 = add(%5, %6)\noutput \"y\" = %7\n", "exp 5 6; add 7"},
    {"fuse_bias_act,dce", X "%5 = " MATMUL(1, 2) "%6 = act(%5) {kind=2}\n%7 = exp(%6)\noutput \"y\" = %7\n", "matmul 5 6; exp 7"},
    {"fuse_horizontal,dce", X "%5 = " MATMUL(1, 2) "%6 = " MATMUL(1, 3) "%7 = add(%5, %6)\noutput \"y\" = %7\n",
     "matmul 5 6; split 5 6; pick 5; pick 6; add 7"},
    {"fuse_horizontal,fuse_swiglu,dce",
     X "%5 = " MATMUL(1, 2) "%6 = act(%5) {kind=3}\n%7 = " MATMUL(1, 3) "%8 = mul(%6, %7)\noutput \"y\" = %8\n", "matmul 5 7; swiglu 6 8"},
    {"fuse_skip_norm,dce", X "%5 = exp(%1)\n%6 = add(%1, %5)\n%7 = rms_norm(%6, %4) {eps=0.001}\n%8 = add(%6, %7)\noutput \"y\" = %8\n",
     "exp 5; skip_rms_norm 6 7; pick 6 7; pick 6 7; add 8"},
    {"fuse_chain,dce", X "%5 = exp(%1)\n%6 = scale(%5) {by=2}\n%7 = sqrt(%5)\noutput \"y\" = %6\noutput \"z\" = %7\n",
     "chain 5 6 7; pick 5 6 7; pick 5 6 7"},
    {"autodiff,dce", "%1 = param \"w\" : f32[4]\n%2 = exp(%1)\n%3 = sum_all(%2)\noutput \"loss\" = %3\n",
     "exp 2; sum_all 3; fill_like -3; broadcast_like -3; mul -2"},
    {"autodiff,simplify,cse,dce", "%1 = param \"w\" : f32[4]\n%2 = exp(%1)\n%3 = sum_all(%2)\noutput \"loss\" = %3\n",
     "exp -3 -2 2; sum_all 3"},
};

static void origins_follow(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
        struct dan_err e = {0};
        struct dan_graph *g;
        struct dan_str got = {0};
        if (dan_graph_parse(origins[i].graph, &g, &e) || dan_run_passes(g, origins[i].pipeline, NULL, &e))
            fail_msg("%s: %s", origins[i].pipeline, e.msg);
        put_origins(g, &got);
        if (strcmp(dan_str_c(&got), origins[i].origins))
            fail_msg("%s: the origins are '%s', expected '%s'", origins[i].pipeline, dan_str_c(&got), origins[i].origins);
        dan_str_release(&got);
        dan_graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(switch_table),
                                       cmocka_unit_test(switch_refuses),
                                       cmocka_unit_test(approximations_are_off),
                                       cmocka_unit_test(every_rule_is_described),
                                       cmocka_unit_test(classes),
                                       cmocka_unit_test(rules_say_why),
                                       cmocka_unit_test(head_is_fused),
                                       cmocka_unit_test(off_is_silent),
                                       cmocka_unit_test(origins_follow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
