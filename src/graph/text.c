/* Text form of a graph: printing.  Reading is in graph/parse.c. */
#include <string.h>
#include "base/str.h"
#include "graph/graph.h"
#include "op/attrs.h"

static void put_type(struct dan_str *s, const struct dan_dtype *t, const struct dan_shape *shape, bool half)
{
    char text[128];
    dan_shape_text(shape, text, sizeof text);
    dan_str_printf(s, "%s%s%s", t->name, text, half ? "~bf16" : "");
}

static void put_types(struct dan_str *s, const struct dan_node *n)
{
    dan_str_puts(s, " : ");
    if (n->n_out == 1) {
        put_type(s, n->dtype, &n->shape, n->half & 1);
        return;
    }
    dan_str_putc(s, '(');
    for (int i = 0; i < n->n_out; i++) {
        if (i) dan_str_puts(s, ", ");
        put_type(s, n->part[i].dtype, &n->part[i].shape, n->half >> i & 1);
    }
    dan_str_putc(s, ')');
}

static void put_leaf(struct dan_str *s, const struct dan_node *n)
{
    dan_str_printf(s, "%s \"%s\"", n->op->name, n->name);
    if (n->init) dan_str_printf(s, " init \"%s\"", n->init);
    if (n->frozen) dan_str_puts(s, " frozen");
    if (dan_op_is(n, "input") && n->attr[DAN_INPUT_DYNAMIC].i) dan_str_printf(s, " dynamic %lld", (long long)n->attr[DAN_INPUT_DYNAMIC].i);
}

static void put_attrs(struct dan_str *s, const struct dan_node *n)
{
    for (int i = 0; i < DAN_MAX_ATTR && n->op->attrs[i].name; i++) {
        dan_str_printf(s, "%s%s=", i ? ", " : " {", n->op->attrs[i].name);
        if (n->op->attrs[i].type == 'f') dan_str_printf(s, "%.17g", n->attr[i].f);
        else if (n->attr[i].i == DAN_END) dan_str_puts(s, "end");
        else dan_str_printf(s, "%lld", (long long)n->attr[i].i);
    }
    if (n->op->attrs[0].name) dan_str_putc(s, '}');
}

static void put_call(struct dan_str *s, const struct dan_node *n)
{
    int n_in = n->n_in;
    while (n_in > 0 && !n->in[n_in - 1]) n_in--;           /* absent inputs at the end go without saying */
    dan_str_printf(s, "%s(", n->op->name);
    for (int i = 0; i < n_in; i++) dan_str_printf(s, n->in[i] ? "%s%%%d" : "%s_", i ? ", " : "", n->in[i]);
    dan_str_putc(s, ')');
    put_attrs(s, n);
}

static void print(const struct dan_graph *g, struct dan_str *s, int indent)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (i == g->n_forward) dan_str_printf(s, "%*s; backward\n", indent, "");
        dan_str_printf(s, "%*s%%%d = ", indent, "", i);
        if (n->op->props & DAN_OP_LEAF) put_leaf(s, n);
        else put_call(s, n);
        put_types(s, n);
        if (n->layer >= 0) dan_str_printf(s, " @%d", n->layer);
        if (n->recompute) dan_str_puts(s, " recompute");
        if (n->where && !(n->op->props & DAN_OP_LEAF)) dan_str_printf(s, "  # %s", strrchr(n->where, '/') ? strrchr(n->where, '/') + 1 : n->where);
        dan_str_putc(s, '\n');
        if (!n->body) continue;
        dan_str_printf(s, "%*sbody {\n", indent, "");
        print(n->body, s, indent + 2);
        dan_str_printf(s, "%*s}\n", indent, "");
    }
    for (int32_t i = 0; i < g->n_out; i++) dan_str_printf(s, "%*soutput \"%s\" = %%%d\n", indent, "", g->out_name[i], g->out[i]);
}

void dan_graph_print(const struct dan_graph *g, struct dan_str *out) { print(g, out, 0); }
