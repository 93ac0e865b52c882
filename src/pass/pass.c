/* Running a pipeline. */
#include "pass/pass.h"
#include <string.h>
#include "base/str.h"
#include "pass/origin.h"

static const struct dan_pass *find(const char *name, size_t n)
{
    for (int i = 0; dan_passes[i]; i++)
        if (strlen(dan_passes[i]->name) == n && memcmp(dan_passes[i]->name, name, n) == 0) return dan_passes[i];
    return NULL;
}

static void dump(const struct dan_graph *g, const struct dan_pass_opts *o)
{
    if (!o->dump || !o->dump_after || (strcmp(o->dump_after, "all") && strcmp(o->dump_after, o->rule->name))) return;
    struct dan_str s = {0};
    dan_graph_print(g, &s);
    o->dump(o->dump_ctx, o->rule->name, dan_str_c(&s));
    dan_str_release(&s);
}

static int run_pass(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct dan_err v = {0};
    int rc = o->rule->run(g, o, e);
    if (!rc && dan_graph_verify(g, &v)) rc = dan_fail(e, v.code, "after pass '%s': %s", o->rule->name, v.msg);
    if (!rc) dump(g, o);
    return rc;
}

int dan_run_passes(struct dan_graph *g, const char *pipeline, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct dan_pass_opts mine = o ? *o : (struct dan_pass_opts){0};
    int rc = dan_fusion_check(mine.fusion, e);
    dan_origin_start(g);
    for (const char *s = pipeline; *s && !rc;) {
        size_t n = strcspn(s, ",");
        mine.rule = find(s, n);
        if (!mine.rule) return dan_fail(e, DAN_EINVAL, "there is no pass '%.*s'", (int)n, s);
        if (dan_fusion_on(mine.fusion, mine.rule)) rc = run_pass(g, &mine, e);
        s += n + (s[n] == ',');
    }
    if (!rc && dan_arena_failed(g->arena)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the origins of %d nodes", g->n);
    return rc;
}
