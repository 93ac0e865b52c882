/* quantise_rows(norm(x))  ->  norm(x) {round}: rows are rounded while they are in L1, and nothing is written as f32.  The same operations
 * in the same order: exact (E0).  The norm may be one with a residual (fuse_skip_norm). */
#include "base/mem.h"
#include "core/rounded.h"
#include "op/ops.h"
#include "pass/pass.h"

struct state { int32_t *uses; dan_ref *by; const struct dan_pass_opts *o; };       /* by: norm -> the quantise_rows that it swallows */

/* The norm behind x and the part of it that x is; 0 for others. */
static dan_ref norm_of(const struct dan_graph *g, dan_ref x, int *part)
{
    const struct dan_node *n = &g->node[x];
    *part = 0;
    if (dan_op_is(n, "rms_norm") || dan_op_is(n, "layer_norm")) return x;
    if (!dan_op_is(n, "pick")) return 0;
    *part = (int)n->attr[DAN_PICK_INDEX].i;
    const struct dan_node *from = &g->node[n->in[0]];
    return *part == 1 && (dan_op_is(from, "skip_rms_norm") || dan_op_is(from, "skip_layer_norm")) ? n->in[0] : 0;
}

/* Another pick than x shows this part, too. */
static bool shown_twice(const struct dan_graph *g, dan_ref norm, int part, dan_ref x)
{
    for (int32_t i = norm + 1; i < g->n; i++)
        if (i != x && dan_op_is(&g->node[i], "pick") && g->node[i].in[0] == norm && g->node[i].attr[DAN_PICK_INDEX].i == part) return true;
    return false;
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        int part;
        dan_ref x = n->n_in ? n->in[0] : 0, norm = dan_op_is(n, "quantise_rows") ? norm_of(g, x, &part) : 0;
        const dan_ref place[] = {norm, i, 0};
        if (!norm) continue;
        if (s->uses[x] != 1) dan_not_fused(s->o, g, place, "%s reads the normed rows, too", dan_other_reader(g, x, i));
        else if (x != norm && shown_twice(g, norm, part, x)) dan_not_fused(s->o, g, place, "the normed rows are read elsewhere, too");
        else {
            s->by[norm] = i;
            dan_fused(s->o, g, place);
        }
    }
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct state *s = r->ctx;
    const struct dan_graph *g = r->old;
    const struct dan_node *n = &g->node[i];
    int part;
    if (s->by[i]) {
        dan_ref in[4] = {0};
        union dan_attr attr[DAN_MAX_ATTR] = {{0}};
        for (int k = 0; k < n->n_in && k < 4; k++) in[k] = n->in[k] ? r->map[n->in[k]] : 0;
        attr[DAN_NORM_EPS] = n->attr[DAN_NORM_EPS];
        attr[DAN_NORM_ROUND] = g->node[s->by[i]].attr[DAN_QUANTISE_FORM];
        return dan_emit(&r->b, n->op, in, n->n_in, attr, DAN_MAX_ATTR);
    }
    if (dan_op_is(n, "pick") && s->by[n->in[0]]) return dan_pick(&r->b, r->map[n->in[0]], (int)n->attr[DAN_PICK_INDEX].i);
    if (dan_op_is(n, "quantise_rows")) {
        dan_ref norm = norm_of(g, n->in[0], &part);
        if (norm && s->by[norm] == i) return r->map[n->in[0]];
    }
    return DAN_KEEP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct state s = {dan_calloc((size_t)g->n, sizeof *s.uses), dan_calloc((size_t)g->n, sizeof *s.by), o};
    int rc = s.uses && s.by ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.uses);
    dan_free(s.by);
    return rc;
}

const struct dan_pass dan_pass_fuse_norm_quantise = {
    .name = "fuse_norm_quantise", .doc = "a norm gives its rows rounded to int8 for the products behind it", .run = run, .exact = DAN_E0,
    .needs = "rounded rows (quantise_rows) that a norm makes and nobody else reads"};
