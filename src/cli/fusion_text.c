/* The report as text and as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/fusion_report.h"

static const char *layers_text(int32_t first, int32_t last, int32_t times, char buf[DAN_NUM])
{
    if (first < 0 && times > 1) snprintf(buf, DAN_NUM, "x%d", times);
    else if (first < 0) snprintf(buf, DAN_NUM, "-");
    else if (first == last) snprintf(buf, DAN_NUM, "%d", first);
    else if (times == last - first + 1) snprintf(buf, DAN_NUM, "%d-%d", first, last);
    else snprintf(buf, DAN_NUM, "%d-%d x%d", first, last, times);
    return buf;
}

static const char *micro(double seconds, char buf[DAN_NUM])
{
    if (seconds >= 0.01) snprintf(buf, DAN_NUM, "%.1f ms", seconds * 1e3);
    else if (seconds >= 1e-4) snprintf(buf, DAN_NUM, "%.2f ms", seconds * 1e3);
    else snprintf(buf, DAN_NUM, "%.1f us", seconds * 1e6);
    return buf;
}

static const char *rate(const struct fusion_cost *c, char buf[DAN_NUM])
{
    if (c->flops <= 0 || c->seconds <= 0) snprintf(buf, DAN_NUM, "-");
    else snprintf(buf, DAN_NUM, "%.1f", c->flops / c->seconds / 1e9);
    return buf;
}

static const char *share(const struct fusion_cost *c, char buf[DAN_NUM])
{
    if (c->seconds <= 0) snprintf(buf, DAN_NUM, "-");
    else snprintf(buf, DAN_NUM, "%.0f %%", 100 * c->least / c->seconds);
    return buf;
}

static void put_row(const struct fusion_report *r, const struct fusion_group *g, struct dan_table *t)
{
    char layer[DAN_NUM], text[10][DAN_NUM], gain[DAN_NUM] = "-";
    const struct fusion_cost *a = &g->cost[0], *b = &g->cost[1];
    const char *made = g->cost[1].n ? g->made[1] : "(nothing)", *rules = fusion_rules(r, g), *class = dan_exactness_name(g->exact);
    layers_text(g->layer, g->last_layer, g->times, layer);
    if (a->seconds > 0 && b->seconds > 0) snprintf(gain, sizeof gain, "%.2fx", a->seconds / b->seconds);
    const char *cells[] = {layer, g->what, made, *rules ? rules : "-", *class ? class : "-", dan_fmt_bytes(a->bytes, text[0]),
                           dan_fmt_bytes(b->bytes, text[1]), micro(a->seconds, text[2]), micro(b->seconds, text[3]), gain,
                           rate(a, text[4]), rate(b, text[5]), share(b, text[6]), b->binds ? b->binds : "-"};
    dan_table_row(t, cells);
}

static void put_table(const struct fusion_report *r, int width, bool colour, struct dan_str *out)
{
    static const char *const headers[] = {"layer", "original", "fused group", "rule", "class", "bytes", "after", "time", "after", "gain",
                                          "GFLOP/s", "after", "of limit", "binds"};
    struct dan_table t;
    int32_t n;
    struct fusion_group *g = fusion_merged(r, &n);
    dan_table_init(&t, r->o.profile ? "rlllLrrrrrrrrl" : "rlllLrr", headers);
    for (int32_t i = 0; i < n && g; i++) put_row(r, &g[i], &t);
    dan_table_print(&t, width, colour, out);
    dan_table_release(&t);
}

static void put_rules(const struct fusion_report *r, int width, bool colour, struct dan_str *out)
{
    static const char *const headers[] = {"rule", "class", "", "fused", "needs"};
    struct dan_table t;
    dan_table_init(&t, "lLlrl", headers);
    for (int k = 0; dan_passes[k]; k++) {
        const struct dan_pass *p = dan_passes[k];
        char class[16], fused[DAN_NUM];
        if (!p->exact || !fusion_in_pipeline(r, p)) continue;
        snprintf(class, sizeof class, "%s%s%s", dan_exactness_name(p->exact), p->exact_grad > p->exact ? "/" : "",
                 p->exact_grad > p->exact ? dan_exactness_name(p->exact_grad) : "");
        snprintf(fused, sizeof fused, "%d", k < 64 ? r->fused[k] : 0);
        const char *cells[] = {fusion_rule_name(p), class, dan_fusion_on(r->o.fusion, p) ? "on" : "off", fused, p->needs};
        dan_table_row(&t, cells);
    }
    dan_table_print(&t, width, colour, out);
    dan_table_release(&t);
}

static void put_notes(const struct fusion_report *r, struct dan_str *out)
{
    char layers[DAN_NUM];
    if (!r->n_notes) dan_str_puts(out, "\nNo rule was near and did not fit.\n");
    for (int32_t i = 0; i < r->n_notes; i++) {
        const struct fusion_note *n = &r->note[i];
        if (i == 0) dan_str_puts(out, "\nNot fused:\n");
        layers_text(n->layer, n->last_layer, n->times, layers);
        dan_str_printf(out, "  %s, %s%s: not fused by %s because %s\n", n->what, n->layer < 0 ? "outside the layers" : "layer ",
                       n->layer < 0 ? "" : layers, fusion_rule_name(n->rule), n->why);
    }
}

static void put_machine(const struct fusion_report *r, struct dan_str *out)
{
    const struct dan_machine *m = &r->machine;
    dan_str_printf(out, "limits, %d thread%s:", r->threads, r->threads == 1 ? "" : "s");
    for (int k = 0; k < DAN_N_PEAKS; k++)
        dan_str_printf(out, " %s %.0f GFLOP/s,", dan_peak_name(k), dan_machine_peak(m, k, r->threads) / 1e9);
    int last = m->n_points ? m->n_points - 1 : 0;
    dan_str_printf(out, " memory read %.1f GB/s, copy %.1f GB/s\n", m->bandwidth[DAN_FLOW_READ][DAN_LEVEL_MEMORY][last] / 1e9,
                   m->bandwidth[DAN_FLOW_COPY][DAN_LEVEL_MEMORY][last] / 1e9);
}

static void put_head(const struct fusion_report *r, struct dan_str *out)
{
    struct fusion_cost a = fusion_total(r, 0), b = fusion_total(r, 1);
    char t[6][DAN_NUM];
    dan_str_printf(out, "%s, %s graph for %lld rows, %s: %d nodes that compute without fusion, %d with it; %s and %s pass through them\n",
                   r->m.family, r->o.train ? "training" : "inference", (long long)r->o.rows, r->o.dtype, a.n, b.n,
                   dan_fmt_bytes(a.bytes, t[0]), dan_fmt_bytes(b.bytes, t[1]));
    if (!r->o.profile) return;
    dan_str_printf(out, "one run takes %s without fusion and %s with it (%.2fx): %.1f and %.1f GFLOP/s, %s and %s of the machine's limit\n",
                   micro(a.seconds, t[0]), micro(b.seconds, t[1]), a.seconds / b.seconds, a.flops / a.seconds / 1e9,
                   b.flops / b.seconds / 1e9, share(&a, t[2]), share(&b, t[3]));
    put_machine(r, out);
}

void fusion_put_text(const struct fusion_report *r, int width, bool colour, struct dan_str *out)
{
    put_head(r, out);
    dan_str_putc(out, '\n');
    put_table(r, width, colour, out);
    put_notes(r, out);
    dan_str_putc(out, '\n');
    put_rules(r, width, colour, out);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *cost_json(const struct fusion_report *r, const struct fusion_cost *c, const char *ops)
{
    json_t *j = json_pack("{s:i,s:f,s:f}", "nodes", c->n, "bytes", c->bytes, "flops", c->flops);
    if (ops) json_object_set_new(j, "ops", json_string(ops));
    if (!r->o.profile) return j;
    json_object_set_new(j, "seconds", json_real(c->seconds));
    json_object_set_new(j, "flops_per_second", json_real(c->seconds > 0 ? c->flops / c->seconds : 0));
    json_object_set_new(j, "limit_seconds", json_real(c->least));
    json_object_set_new(j, "share_of_limit", json_real(c->seconds > 0 ? c->least / c->seconds : 0));
    json_object_set_new(j, "binds", c->binds ? json_string(c->binds) : json_null());
    return j;
}

static json_t *rules_json(uint64_t rules)
{
    json_t *a = json_array();
    for (int k = 0; dan_passes[k] && k < 64; k++)
        if (rules >> k & 1) json_array_append_new(a, json_string(fusion_rule_name(dan_passes[k])));
    return a;
}

static json_t *group_json(const struct fusion_report *r, const struct fusion_group *g)
{
    json_t *from = json_array();
    for (const dan_ref *f = g->from; *f; f++) json_array_append_new(from, json_integer(*f));
    json_t *j =
        json_pack("{s:s,s:o,s:i,s:b,s:o,s:o,s:o,s:o}", "original", g->what, "nodes", from, "layer", g->layer, "backward", g->backward,
                  "rules", rules_json(g->rules), "class", g->exact ? json_string(dan_exactness_name(g->exact)) : json_null(), "before",
                  cost_json(r, &g->cost[0], g->made[0]), "after", cost_json(r, &g->cost[1], g->made[1]));
    if (g->kernels) json_object_set_new(j, "kernels", json_string(g->kernels));
    return j;
}

static json_t *rule_list_json(const struct fusion_report *r)
{
    json_t *a = json_array();
    for (int k = 0; dan_passes[k] && k < 64; k++) {
        const struct dan_pass *p = dan_passes[k];
        if (!p->exact || !fusion_in_pipeline(r, p)) continue;
        json_array_append_new(a,
                              json_pack("{s:s,s:s,s:s,s:b,s:i,s:s,s:s}", "rule", fusion_rule_name(p), "class", dan_exactness_name(p->exact),
                                        "class_of_gradients", dan_exactness_name(p->exact_grad > p->exact ? p->exact_grad : p->exact), "on",
                                        dan_fusion_on(r->o.fusion, p), "fused", r->fused[k], "needs", p->needs, "doc", p->doc));
    }
    return a;
}

static json_t *machine_json(const struct fusion_report *r)
{
    json_t *j = json_pack("{s:i}", "threads", r->threads);
    for (int k = 0; k < DAN_N_PEAKS; k++) {
        char key[48];
        snprintf(key, sizeof key, "%s_flops_per_second", dan_peak_name(k));
        json_object_set_new(j, key, json_real(dan_machine_peak(&r->machine, k, r->threads)));
    }
    int last = r->machine.n_points ? r->machine.n_points - 1 : 0;
    json_object_set_new(j, "memory_read_bytes_per_second", json_real(r->machine.bandwidth[DAN_FLOW_READ][DAN_LEVEL_MEMORY][last]));
    return j;
}

json_t *fusion_json(const struct fusion_report *r)
{
    json_t *groups = json_array(), *notes = json_array();
    struct fusion_cost a = fusion_total(r, 0), b = fusion_total(r, 1);
    for (int32_t i = 0; i < r->n_groups; i++) json_array_append_new(groups, group_json(r, &r->group[i]));
    for (int32_t i = 0; i < r->n_notes; i++)
        json_array_append_new(notes, json_pack("{s:s,s:s,s:i,s:i,s:i,s:s}", "rule", fusion_rule_name(r->note[i].rule), "original",
                                               r->note[i].what, "first_layer", r->note[i].layer, "last_layer", r->note[i].last_layer,
                                               "places", r->note[i].times, "because", r->note[i].why));
    json_t *j = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o,s:o,s:o,s:o,s:o}", "family", r->m.family, "mode", r->o.train ? "train" : "infer",
                          "rows", (json_int_t)r->o.rows, "dtype", r->o.dtype, "fusion", r->o.fusion, "before", cost_json(r, &a, NULL),
                          "after", cost_json(r, &b, NULL), "groups", groups, "not_fused", notes, "rules", rule_list_json(r));
    if (r->o.profile) json_object_set_new(j, "limits", machine_json(r));
    return j;
}
