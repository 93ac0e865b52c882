/* Common subexpressions: nodes with the same op, inputs, attributes and body become one.
 * Random ops carry their stream in an attribute, so equal nodes really are equal. */
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "pass/bodies.h"

struct key { const struct dan_op *op; const struct dan_graph *body; union dan_attr attr[DAN_MAX_ATTR]; dan_ref in[16]; };

struct state { struct dan_map *seen; const struct dan_pass_opts *o; };     /* seen: key -> old node */

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (n->op->props & (DAN_OP_LEAF | DAN_OP_STATE) || n->recompute || n->n_in > 16) return DAN_KEEP;
    struct key k;
    memset(&k, 0, sizeof k);
    k.op = n->op;
    k.body = n->body;
    memcpy(k.attr, n->attr, sizeof k.attr);
    for (int j = 0; j < n->n_in; j++) k.in[j] = n->in[j] ? r->map[n->in[j]] : 0;
    int64_t *first = dan_map_slot(s->seen, &k, sizeof k);
    if (!first) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory for cse");
    if (*first) dan_fused(s->o, r->old, (const dan_ref[]){(dan_ref)*first, i, 0});
    else *first = i;
    return *first == i ? dan_rewrite_copy(r, i) : r->map[*first];
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct state s = {dan_map_new(), o};
    if (!s.seen) return dan_fail(e, DAN_ENOMEM, "not enough memory for cse");
    int rc = dan_rewrite_each(g, visit, &s, e);
    dan_map_free(s.seen);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_cse = {
    .name = "cse", .doc = "merges nodes that compute the same", .run = run, .exact = DAN_E0, .alone = true,
    .needs = "the same op on the same inputs with the same attributes"};
