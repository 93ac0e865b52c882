/* Concats that cost nothing: where the pass `place_concat` has marked an input, the unit that makes it gets its
 * memory inside the concat's output.  A mark that does not fit the plan (another storage format, a view) is left
 * alone: the concat then copies that input. */
#include "exec/program.h"
#include "op/attrs.h"
#include "op/util.h"

static bool is_marked(const struct dan_node *concat, int k) { return k < 64 && concat->attr[DAN_CONCAT_PLACED].i >> k & 1; }

/* The unit that r is; a pick is its part. */
static int32_t unit_of(const struct dan_program *p, dan_ref r)
{
    const struct dan_node *n = &p->g.node[r];
    return dan_op_is(n, "pick") ? p->first_unit[n->in[0]] + (int32_t)n->attr[DAN_PICK_INDEX].i : p->first_unit[r];
}

/* The unit whose maker could write into the concat's output; -1: none. */
static int32_t maker_unit(const struct dan_program *p, dan_ref r)
{
    int32_t u = unit_of(p, r);
    uint32_t props = p->g.node[p->unit[u].node].op->props;
    return p->unit[u].kind == UNIT_ARENA && !(props & (DAN_OP_VIEW | DAN_OP_STATE)) ? u : -1;
}

static void place(struct dan_program *p, dan_ref concat, int k)
{
    int32_t host = p->first_unit[concat], u = maker_unit(p, p->g.node[concat].in[k]);
    if (u < 0 || p->unit[u].t.dtype != p->unit[host].t.dtype) return;
    p->unit[u].kind = UNIT_PLACED;
    p->unit[u].root = host;
    p->unit[u].slot = k;
    if (p->unit[host].first > p->unit[u].node) p->unit[host].first = p->unit[u].node;
}

void dan_program_place(struct dan_program *p)
{
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *n = &p->g.node[i];
        if (!dan_op_is(n, "concat")) continue;
        for (int k = 0; k < n->n_in; k++)
            if (is_marked(n, k)) place(p, i, k);
    }
}

bool dan_node_placed(const struct dan_program *p, dan_ref r)
{
    const struct dan_node *n = &p->g.node[r];
    if (!dan_op_is(n, "concat")) return false;
    for (int k = 0; k < n->n_in; k++) {
        int32_t u = unit_of(p, n->in[k]);
        if (p->unit[u].kind != UNIT_PLACED || p->unit[u].root != p->first_unit[r] || p->unit[u].slot != k) return false;
    }
    return true;
}

void dan_unit_show_placed(const struct dan_program *p, struct unit *u)
{
    const struct unit *host = &p->unit[u->root];
    const struct dan_node *n = &p->g.node[host->node];
    struct dan_tensor all = dan_tensor_of(u->t.dtype, n->shape, p->memory ? p->memory + host->offset : NULL);
    int axis = dan_axis(n->attr[DAN_CONCAT_AXIS].i, n->shape.n);
    int64_t at = 0;
    for (int k = 0; k < u->slot; k++) at += p->g.node[n->in[k]].shape.d[axis];
    for (int i = 0; i < n->shape.n; i++) u->t.stride[i] = all.stride[i];
    u->t.data = all.data ? (char *)all.data + at * all.stride[axis] : NULL;
}
