/* Passes that also work inside of scans. */
#ifndef DAN_PASS_BODIES_H
#define DAN_PASS_BODIES_H
#include "pass/pass.h"

struct dan_body_note { const struct dan_pass_opts *o; const struct dan_graph *g; dan_ref scan; };

/* What is fused inside of a scan is said of the scan: the body's nodes are not in the graph as built. */
static inline void dan_note_of_body(void *ctx, const struct dan_fusion_note *n)
{
    const struct dan_body_note *b = ctx;
    dan_ref place[2] = {b->scan, 0};
    struct dan_fusion_note outer = *n;
    outer.g = b->g;
    outer.node = place;
    b->o->note(b->o->note_ctx, &outer);
}

/* Runs the pass on the body of every scan of g. */
static inline int dan_pass_bodies(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e,
                                  int (*run)(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e))
{
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++) {
        if (!g->node[i].body || !dan_op_is(&g->node[i], "scan")) continue;
        struct dan_body_note note = {o, g, i};
        struct dan_pass_opts inner = *o;
        if (o->note) {
            inner.note = dan_note_of_body;
            inner.note_ctx = &note;
        }
        rc = run((struct dan_graph *)g->node[i].body, &inner, e);
    }
    return rc;
}

#endif
