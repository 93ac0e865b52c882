/* Drops nodes that no output needs.  Inputs stay: callers bind them by name. */
#include <string.h>
#include "base/mem.h"
#include "pass/bodies.h"

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const bool *live = r->ctx;
    return live[i] ? DAN_KEEP : DAN_DROP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    bool *live = dan_calloc((size_t)g->n, sizeof *live);
    if (!live) return dan_fail(e, DAN_ENOMEM, "not enough memory to look at %d nodes", g->n);
    for (int32_t i = 0; i < g->n_out; i++) live[g->out[i]] = true;
    for (int32_t i = g->n - 1; i > 0; i--) {
        if (dan_op_is(&g->node[i], "input")) live[i] = true;
        for (int k = 0; live[i] && k < g->node[i].n_in; k++) live[g->node[i].in[k]] = true;
    }
    int rc = dan_rewrite_each(g, visit, live, e);
    dan_free(live);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_dce = {.name = "dce", .doc = "drops nodes that no output needs", .run = run};
