/* The report as one page without scripts or outside resources: the joined table, and the graph without and with fusion as
 * SVG, a group in one colour in both.  Of a model with layers that are alike only one layer is drawn. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "cli/fusion_report.h"
#include "io/html.h"

enum { BOX_W = 150, BOX_H = 30, STEP_X = 164, STEP_Y = 56, WHOLE = 60 };

static void put_escaped(const char *s, struct dan_str *out) { dan_html_put(s, strlen(s), out); }

/* ---- the drawing --------------------------------------------------------------------------- */

struct drawing {
    struct fusion_report *r;
    int k;                                     /* 0 without fusion, 1 with it */
    int32_t *depth, *column;                   /* by node; depth -1: not drawn */
    int32_t rows, columns, layer;              /* layer: the one that is drawn; -1 all */
};

static const struct dan_graph *graph_of(const struct drawing *d) { return d->r->g[d->k]; }

static bool drawn(const struct drawing *d, dan_ref i)
{
    return d->r->group_of[d->k][i] >= 0 && (d->layer < 0 || graph_of(d)->node[i].layer == d->layer);
}

/* Through views and picks to what computes. */
static dan_ref maker(const struct dan_graph *g, dan_ref r)
{
    while (r && (g->node[r].op->props & DAN_OP_VIEW || dan_op_is(&g->node[r], "pick"))) r = g->node[r].in[0];
    return r;
}

/* A node lies below all that it reads; within a row in order. */
static void place(struct drawing *d)
{
    const struct dan_graph *g = graph_of(d);
    int32_t *used = d->column + g->n, forward = 0;         /* used: nodes by row */
    for (int32_t i = 1; i < g->n; i++) {
        d->depth[i] = -1;
        if (!drawn(d, i)) continue;
        d->depth[i] = g->n_forward && i >= g->n_forward ? forward : 0;      /* gradients below what they are of */
        for (int k = 0; k < g->node[i].n_in; k++) {
            dan_ref m = maker(g, g->node[i].in[k]);
            if (m && d->depth[m] >= d->depth[i]) d->depth[i] = d->depth[m] + 1;
        }
        d->column[i] = used[d->depth[i]]++;
        if (used[d->depth[i]] > d->columns) d->columns = used[d->depth[i]];
        if (d->depth[i] + 1 > d->rows) d->rows = d->depth[i] + 1;
        if (i < g->n_forward) forward = d->rows;
    }
}

static int box_x(const struct drawing *d, dan_ref i) { return 8 + d->column[i] * STEP_X; }
static int box_y(const struct drawing *d, dan_ref i) { return 8 + d->depth[i] * STEP_Y; }

static void put_edges(const struct drawing *d, struct dan_str *out)
{
    const struct dan_graph *g = graph_of(d);
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in && d->depth[i] >= 0; k++) {
            dan_ref m = maker(g, g->node[i].in[k]);
            if (!m || d->depth[m] < 0) continue;
            int x0 = box_x(d, m) + BOX_W / 2, y0 = box_y(d, m) + BOX_H, x1 = box_x(d, i) + BOX_W / 2, y1 = box_y(d, i),
                bend = (y1 - y0) / 2;
            dan_str_printf(out, "<path d=\"M%d %dC%d %d %d %d %d %d\"/>\n", x0, y0, x0, y0 + bend, x1, y1 - bend, x1, y1);
        }
}

/* Pale colours at golden angles, so that neighbours differ; grey for what no rule touched. */
static unsigned colour_of(const struct fusion_report *r, int32_t group)
{
    double turn = (group * 137.508 / 360) - floor(group * 137.508 / 360);
    unsigned rgb = 0;
    if (!r->group[group].rules) return 0xececec;
    for (int k = 0; k < 3; k++) {
        double x = fabs(fmod(turn * 6 + (k == 0 ? 0 : k == 1 ? 4 : 2), 6) - 3) - 1, c = x < 0 ? 0 : x > 1 ? 1 : x;
        rgb = rgb << 8 | (unsigned)(170 + 75 * c);
    }
    return rgb;
}

/* The first CUT characters. */
static void put_short(const char *s, struct dan_str *out)
{
    enum { CUT = 26 };
    char text[CUT + 4];
    snprintf(text, sizeof text, strlen(s) > CUT ? "%.*s..." : "%.*s", strlen(s) > CUT ? CUT - 3 : CUT, s);
    put_escaped(text, out);
}

static void put_boxes(const struct drawing *d, struct dan_str *out)
{
    struct fusion_report *r = d->r;
    const struct dan_graph *g = graph_of(d);
    for (int32_t i = 1; i < g->n; i++) {
        if (d->depth[i] < 0) continue;
        const struct fusion_group *q = &r->group[r->group_of[d->k][i]];
        int x = box_x(d, i), y = box_y(d, i);
        dan_str_printf(out, "<g><title>");
        put_escaped(q->what, out);
        if (r->o.profile) dan_str_printf(out, "&#10;%.1f us", 1e6 * r->seconds[d->k][i]);
        dan_str_printf(out, "</title><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"5\" fill=\"#%06x\"/><text x=\"%d\" y=\"%d\">",
                       x, y, BOX_W, BOX_H, colour_of(r, r->group_of[d->k][i]), x + BOX_W / 2, y + 13);
        put_escaped(g->node[i].op->name, out);
        dan_str_printf(out, "</text><text x=\"%d\" y=\"%d\" class=\"s\">", x + BOX_W / 2, y + 25);
        put_short(fusion_names(r, g->node[i].origin), out);
        dan_str_puts(out, "</text></g>\n");
    }
}

static void put_svg(struct fusion_report *r, int k, int32_t layer, struct dan_str *out)
{
    size_t n = (size_t)r->g[k]->n;
    int32_t *all = dan_calloc(3 * n, sizeof *all);
    struct drawing d = {.r = r, .k = k, .depth = all, .column = all + n, .layer = layer};
    if (!all) {
        out->failed = true;
        return;
    }
    place(&d);
    int w = 16 + d.columns * STEP_X, h = 16 + d.rows * STEP_Y;
    dan_str_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n<g class=\"e\">\n", w,
                   h, w, h);
    put_edges(&d, out);
    dan_str_puts(out, "</g>\n<g class=\"b\">\n");
    put_boxes(&d, out);
    dan_str_puts(out, "</g>\n</svg>\n");
    dan_free(all);
}

/* ---- tables -------------------------------------------------------------------------------- */

static void put_cell(const char *tag, const char *text, struct dan_str *out)
{
    dan_str_printf(out, "<td%s>", tag);
    put_escaped(text, out);
    dan_str_puts(out, "</td>");
}

static void put_number(double x, const char *fmt, struct dan_str *out)
{
    char text[48] = "-";
    if (x > 0) snprintf(text, sizeof text, fmt, x);    /* fmt: ours */
    put_cell(" class=\"n\"", text, out);
}

static void put_row(const struct fusion_report *r, const struct fusion_group *g, struct dan_str *out)
{
    char layer[32] = "-";
    const struct fusion_cost *a = &g->cost[0], *b = &g->cost[1];
    if (g->layer >= 0) snprintf(layer, sizeof layer, g->last_layer > g->layer ? "%d-%d" : "%d", g->layer, g->last_layer);
    dan_str_printf(out, "<tr%s>", g->rules ? "" : " class=\"p\"");
    put_cell("", layer, out);
    put_cell("", g->what, out);
    put_cell("", g->made[0], out);
    put_cell("", b->n ? g->made[1] : "(nothing)", out);
    put_cell("", fusion_rules(r, g), out);
    put_cell("", dan_exactness_name(g->exact), out);
    put_number(a->bytes / 1e6, "%.3f", out);
    put_number(b->bytes / 1e6, "%.3f", out);
    if (r->o.profile) {
        put_number(a->seconds * 1e6, "%.1f", out);
        put_number(b->seconds * 1e6, "%.1f", out);
        put_number(b->seconds > 0 ? a->seconds / b->seconds : 0, "%.2f", out);
        put_number(a->seconds > 0 ? a->flops / a->seconds / 1e9 : 0, "%.1f", out);
        put_number(b->seconds > 0 ? b->flops / b->seconds / 1e9 : 0, "%.1f", out);
        put_number(b->seconds > 0 ? 100 * b->least / b->seconds : 0, "%.0f %%", out);
        put_cell("", b->binds ? b->binds : "", out);
    }
    dan_str_puts(out, "</tr>\n");
}

static void put_table(const struct fusion_report *r, struct dan_str *out)
{
    int32_t n;
    struct fusion_group *g = fusion_merged(r, &n);
    dan_str_puts(out, "<table><tr><th>layer<th>original<th>without fusion<th>with fusion<th>rule<th>class<th>MB<th>MB after");
    if (r->o.profile) dan_str_puts(out, "<th>us<th>us after<th>gain<th>GFLOP/s<th>after<th>of limit<th>binds");
    dan_str_puts(out, "</tr>\n");
    for (int32_t i = 0; i < n && g; i++) put_row(r, &g[i], out);
    dan_str_puts(out, "</table>\n");
}

static void put_notes(const struct fusion_report *r, struct dan_str *out)
{
    if (!r->n_notes) return;
    dan_str_puts(out, "<h2>Not fused</h2>\n<table><tr><th>rule<th>layers<th>original<th>because</tr>\n");
    for (int32_t i = 0; i < r->n_notes; i++) {
        const struct fusion_note *n = &r->note[i];
        char layer[32] = "-";
        if (n->layer >= 0) snprintf(layer, sizeof layer, n->last_layer > n->layer ? "%d-%d" : "%d", n->layer, n->last_layer);
        dan_str_puts(out, "<tr>");
        put_cell("", fusion_rule_name(n->rule), out);
        put_cell("", layer, out);
        put_cell("", n->what, out);
        put_cell("", n->why, out);
        dan_str_puts(out, "</tr>\n");
    }
    dan_str_puts(out, "</table>\n");
}

/* The layer to draw: none for a small graph, else the second (it has neighbours on both sides), or the only one. */
static int32_t layer_to_draw(const struct fusion_report *r)
{
    int32_t most = -1;
    if (fusion_total(r, 0).n <= WHOLE) return -1;
    for (int32_t i = 0; i < r->n_groups; i++)
        if (r->group[i].layer > most) most = r->group[i].layer;
    return most > 1 ? 1 : most;
}

static const char style[] =
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}table{border-collapse:collapse}"
    "td,th{padding:2px 9px;border-bottom:1px solid "
    "#ddd;text-align:left;vertical-align:top;max-width:26em}td.n{text-align:right;white-space:nowrap}"
    "tr.p td{color:#888}svg{max-width:none}.two{display:flex;gap:2em;align-items:flex-start;overflow:auto}"
    ".e path{fill:none;stroke:#999}.b rect{stroke:#666}.b text{font:12px sans-serif;text-anchor:middle}.b text.s{font-size:9px;fill:#555}";

void fusion_put_html(struct fusion_report *r, const char *title, struct dan_str *out)
{
    struct fusion_cost a = fusion_total(r, 0), b = fusion_total(r, 1);
    int32_t layer = layer_to_draw(r);
    dan_str_puts(out, "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>fusion of ");
    put_escaped(title, out);
    dan_str_printf(out, "</title><style>%s</style>\n<h1>Fusion of ", style);
    put_escaped(title, out);
    dan_str_printf(out, "</h1>\n<p>%s, %s graph for %lld rows, %s. %d nodes compute without fusion, %d with it.", r->m.family,
                   r->o.train ? "training" : "inference", (long long)r->o.rows, r->o.dtype, a.n, b.n);
    if (r->o.profile && b.seconds > 0)
        dan_str_printf(out, " One run takes %.3f ms without and %.3f ms with it: %.2f times as fast.", a.seconds * 1e3, b.seconds * 1e3,
                       a.seconds / b.seconds);
    dan_str_puts(out, "</p>\n");
    put_table(r, out);
    put_notes(r, out);
    if (layer < 0) dan_str_puts(out, "<h2>The graph</h2>\n");
    else dan_str_printf(out, "<h2>Layer %d</h2>\n", layer);
    dan_str_puts(out, "<p>One colour is one group in both; grey was not touched.</p>\n<div class=\"two\"><div><h3>without fusion</h3>\n");
    put_svg(r, 0, layer, out);
    dan_str_puts(out, "</div><div><h3>with fusion</h3>\n");
    put_svg(r, 1, layer, out);
    dan_str_puts(out, "</div></div>\n</html>\n");
}
