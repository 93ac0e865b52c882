/* Running a pipeline, and the node-by-node rewriting that most passes are made of. */
#include "pass/pass.h"
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

static const struct dan_pass *find(const char *name, size_t n)
{
    for (int i = 0; dan_passes[i]; i++)
        if (strlen(dan_passes[i]->name) == n && memcmp(dan_passes[i]->name, name, n) == 0) return dan_passes[i];
    return NULL;
}

static void dump(const struct dan_graph *g, const struct dan_pass *p, const struct dan_pass_opts *o)
{
    if (!o->dump || !o->dump_after || (strcmp(o->dump_after, "all") && strcmp(o->dump_after, p->name))) return;
    struct dan_str s = {0};
    dan_graph_print(g, &s);
    o->dump(o->dump_ctx, p->name, dan_str_c(&s));
    dan_str_release(&s);
}

int dan_run_passes(struct dan_graph *g, const char *pipeline, const struct dan_pass_opts *o, struct dan_err *e)
{
    static const struct dan_pass_opts none;
    if (!o) o = &none;
    for (const char *s = pipeline; *s;) {
        size_t n = strcspn(s, ",");
        const struct dan_pass *p = find(s, n);
        if (!p) return dan_fail(e, DAN_EINVAL, "there is no pass '%.*s'", (int)n, s);
        int rc = p->run(g, o, e);
        struct dan_err v = {0};
        if (!rc && dan_graph_verify(g, &v)) rc = dan_fail(e, v.code, "after pass '%s': %s", p->name, v.msg);
        if (rc) return rc;
        dump(g, p, o);
        s += n + (s[n] == ',');
    }
    return DAN_OK;
}

void dan_count_uses(const struct dan_graph *g, int32_t *uses)
{
    memset(uses, 0, sizeof *uses * (size_t)g->n);
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++) uses[g->node[i].in[k]]++;
    for (int32_t i = 0; i < g->n_out; i++) uses[g->out[i]]++;
}

dan_ref dan_rewrite_copy(struct dan_rewrite *r, dan_ref old)
{
    const struct dan_node *n = &r->old->node[old];
    dan_ref *in = dan_arena_alloc(r->g->arena, sizeof *in * (size_t)(n->n_in ? n->n_in : 1));
    if (!in) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory to rewrite a graph");
    for (int k = 0; k < n->n_in; k++) {
        in[k] = n->in[k] ? r->map[n->in[k]] : 0;
        if (n->in[k] && in[k] <= 0) return dan_poison(&r->b, DAN_EINVAL, "a pass dropped %%%d, which '%s' reads", n->in[k], n->op->name);
    }
    struct dan_node copy = *n;
    copy.in = in;
    if (r->g->n == r->g->cap) {
        struct dan_node *bigger = dan_arena_alloc(r->g->arena, sizeof *bigger * (size_t)r->g->cap * 2);
        if (!bigger) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory to rewrite a graph");
        memcpy(bigger, r->g->node, sizeof *bigger * (size_t)r->g->n);
        r->g->node = bigger;
        r->g->cap *= 2;
    }
    r->g->node[r->g->n] = copy;
    return r->g->n++;
}

static void visit_all(struct dan_rewrite *r, dan_ref (*visit)(struct dan_rewrite *r, dan_ref i))
{
    for (int32_t i = 1; i < r->old->n && !r->b.err.code; i++) {
        if (i == r->old->n_forward) r->g->n_forward = r->g->n;
        r->b.layer = r->old->node[i].layer;
        r->b.where = r->old->node[i].where;
        dan_ref to = visit(r, i);
        r->map[i] = to == DAN_KEEP ? dan_rewrite_copy(r, i) : to;
    }
}

int dan_rewrite_each(struct dan_graph *g, dan_ref (*visit)(struct dan_rewrite *r, dan_ref i), void *ctx, struct dan_err *e)
{
    struct dan_rewrite r = {.old = g, .ctx = ctx, .g = dan_graph_new_in(g->arena)};
    r.map = dan_calloc((size_t)g->n, sizeof *r.map);
    if (!r.g || !r.map) {
        dan_free(r.map);
        return dan_fail(e, DAN_ENOMEM, "not enough memory to rewrite a graph of %d nodes", g->n);
    }
    dan_builder_init(&r.b, r.g);
    visit_all(&r, visit);
    int rc = dan_builder_check(&r.b, e);
    for (int32_t i = 0; i < g->n_out && !rc; i++) {
        g->out[i] = r.map[g->out[i]];
        if (g->out[i] <= 0) rc = dan_fail(e, DAN_EINVAL, "a pass dropped output '%s'", g->out_name[i]);
    }
    g->node = r.g->node;
    g->n = r.g->n;
    g->cap = r.g->cap;
    g->n_forward = r.g->n_forward;
    dan_free(r.map);
    return rc;
}
