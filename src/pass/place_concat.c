/* Concat elimination: whoever computes an input of a concat writes it straight into the concat's output, e.g. dq, dk, dv
 * into the gradient of the fused qkv product.  The pass marks the inputs, the planner (exec/place.c) gives them their
 * place.  The same numbers in another place: exact (E0). */
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"
#include "op/util.h"
#include "pass/bodies.h"

/* By value: part k of node i is first[i] + k. */
struct state { int32_t *first; bool *output, *placed, *reshaped; };

static int32_t value_of(const struct dan_graph *g, const struct state *s, dan_ref r)
{
    const struct dan_node *n = &g->node[r];
    return dan_op_is(n, "pick") ? s->first[n->in[0]] + (int32_t)n->attr[DAN_PICK_INDEX].i : s->first[r];
}

static dan_ref maker(const struct dan_graph *g, dan_ref r) { return dan_op_is(&g->node[r], "pick") ? g->node[r].in[0] : r; }

static int axis_of(const struct dan_node *concat) { return dan_axis(concat->attr[DAN_CONCAT_AXIS].i, concat->shape.n); }

static bool reads_twice(const struct dan_node *n, dan_ref r)
{
    int times = 0;
    for (int k = 0; k < n->n_in; k++) times += n->in[k] == r;
    return times > 1;
}

/* NULL, or why the maker of r cannot write into the concat. */
static const char *obstacle(const struct dan_graph *g, const struct state *s, const struct dan_node *concat, dan_ref r)
{
    const struct dan_op *op = g->node[maker(g, r)].op;
    int32_t v = value_of(g, s, r);
    if (op->props & (DAN_OP_LEAF | DAN_OP_STATE)) return "it comes from outside";
    if (op->props & DAN_OP_VIEW) return "it is a view of something else";
    if (s->output[v]) return "it is an output of the graph";
    if (s->placed[v]) return "it lies in another joined buffer already";
    if (reads_twice(concat, r)) return "it is joined twice";
    if (s->reshaped[v]) return "a view of it needs it contiguous";
    return axis_of(concat) == 0 || op->props & DAN_OP_STRIDED ? NULL : "its op writes contiguous rows only";
}

static void mark(struct dan_graph *g, dan_ref i, struct state *s, const struct dan_pass_opts *o)
{
    struct dan_node *n = &g->node[i];
    dan_ref place[66] = {0};
    int n_place = 0;
    n->attr[DAN_CONCAT_PLACED].i = 0;
    for (int k = 0; k < n->n_in && k < 63; k++) {
        const char *why = obstacle(g, s, n, n->in[k]);
        if (why) {
            dan_not_fused(o, g, (const dan_ref[]){n->in[k], i, 0}, "input %d: %s", k, why);
            continue;
        }
        n->attr[DAN_CONCAT_PLACED].i |= INT64_C(1) << k;
        s->placed[value_of(g, s, n->in[k])] = true;
        place[n_place++] = n->in[k];
    }
    place[n_place] = i;
    if (n_place) dan_fused(o, g, place);
}

static void look(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++)
        if (g->node[i].op->props & DAN_OP_VIEW) s->reshaped[value_of(g, s, g->node[i].in[0])] = true;
    for (int32_t i = 0; i < g->n_out; i++) s->output[value_of(g, s, g->out[i])] = true;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    int32_t n = 0, *first = dan_calloc((size_t)g->n, sizeof *first);
    for (int32_t i = 1; i < g->n && first; n += g->node[i++].n_out) first[i] = n;
    bool *all = first ? dan_calloc((size_t)n * 3 + 1, sizeof *all) : NULL;
    int rc = all ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to look at %d nodes", g->n);
    struct state s = {.first = first};
    if (!rc) {
        s.output = all;
        s.placed = all + n;
        s.reshaped = all + 2 * n;
        look(g, &s);
    }
    for (int32_t i = 1; i < g->n && !rc; i++) {
        if (dan_op_is(&g->node[i], "concat")) mark(g, i, &s, o);
    }
    dan_free(all);
    dan_free(first);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_place_concat = {
    .name = "place_concat", .doc = "joined values are computed in place, without a copy", .run = run, .exact = DAN_E0, .alone = true,
    .needs = "a concat whose inputs are computed by ops that can write rows of any stride, and are no outputs"};
