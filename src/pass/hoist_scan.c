/* Gradients of a scan's constants leave the loop.  Inside, step t adds X_t^T Y_t (a weight) or the column sums of X_t (a
 * bias) to a carry, whose history of T copies is kept; outside, one product over all steps gives the sum:
 *   sum over t of X_t^T Y_t  =  X^T Y,   X [T*B, n], Y [T*B, k] stacked as results of the scan.
 * E1: the sum over steps and rows is taken in another order.  Of an LSTM's training step (hidden 128, 12 lanes, 64 steps)
 * the carries were more than half of the time and nearly all of the memory. */
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"
#include "pass/pass.h"

/* A carry that leaves: body nodes. */
struct leave { int32_t carry; dan_ref add, grad, x, y; int32_t part_x, part_y; };       /* y = 0: a sum */
struct hoist { dan_ref scan, now; int32_t n, n_ys, part_of[DAN_MAX_OUT]; struct leave leave[DAN_MAX_OUT]; dan_ref ys[DAN_MAX_OUT]; };
struct state { struct hoist *hoist; int32_t *of, *uses, n; const struct dan_pass_opts *o; };     /* of[scan] = hoist + 1 */

enum { MAX_IN = 64 };

static int carries_of(const struct dan_node *scan) { return (int)scan->attr[DAN_SCAN_CARRIES].i; }

static bool is_product(const struct dan_node *n)
{
    if (!dan_op_is(n, "matmul") || !n->attr[DAN_MATMUL_TA].i || n->attr[DAN_MATMUL_TB].i) return false;
    return !n->attr[DAN_MATMUL_ACT].i && !n->in[2] && !n->in[3];
}

/* The carry's new value is the old one plus a gradient that nobody else reads. */
static bool match(const struct dan_graph *body, const int32_t *uses, int carry, struct leave *l)
{
    dan_ref in = 1 + carry, add = body->out[carry];
    const struct dan_node *n = &body->node[add];
    if (!dan_op_is(n, "add") || uses[add] != 1 || uses[in] != 1 || (n->in[0] != in && n->in[1] != in)) return false;
    dan_ref grad = n->in[n->in[0] == in];
    const struct dan_node *g = &body->node[grad];
    if (uses[grad] != 1 || !dan_shape_equal(&g->shape, &n->shape)) return false;
    bool sum = dan_op_is(g, "sum") && g->attr[DAN_AXIS].i == 0;
    if ((!sum && !is_product(g)) || body->node[g->in[0]].shape.n != 2) return false;
    *l = (struct leave){.carry = carry, .add = add, .grad = grad, .x = g->in[0], .y = sum ? 0 : g->in[1]};
    return true;
}

/* Only the last row of the history is read, and that through merge_dims(slice(pick)). */
static const char *read_elsewhere(const struct dan_graph *g, const struct state *s, dan_ref scan, int carry)
{
    int64_t reverse = g->node[scan].attr[DAN_SCAN_REVERSE].i;
    for (dan_ref p = scan + 1; p < g->n; p++) {
        const struct dan_node *pick = &g->node[p];
        if (!dan_op_is(pick, "pick") || pick->in[0] != scan || pick->attr[DAN_PICK_INDEX].i != carry) continue;
        int32_t seen = 0;
        for (dan_ref q = p + 1; q < g->n; q++) {
            const struct dan_node *n = &g->node[q];
            if (!dan_op_is(n, "slice") || n->in[0] != p || n->attr[DAN_SLICE_AXIS].i != 0) continue;
            bool last = reverse ? n->attr[DAN_SLICE_START].i == 0 && n->attr[DAN_SLICE_STOP].i == 1
                                : n->attr[DAN_SLICE_START].i == -1 && n->attr[DAN_SLICE_STOP].i == DAN_END;
            int32_t merged = 0;
            for (dan_ref m = q + 1; m < g->n; m++)
                merged += dan_op_is(&g->node[m], "merge_dims") && g->node[m].in[0] == q && !g->node[m].attr[DAN_AXIS].i;
            if (!last || merged != s->uses[q]) return "more than the last value of the sum is read";
            seen++;
        }
        if (seen != s->uses[p]) return "the sum's history is read";
    }
    return NULL;
}

/* The part of the new scan that holds body node x for every step: a result it has, or one more. */
static bool find_part(const struct dan_node *scan, struct hoist *h, dan_ref x, int32_t *part)
{
    int carries = carries_of(scan), ys = (int)scan->attr[DAN_SCAN_YS].i;
    for (int k = 0; k < ys; k++)
        if (scan->body->out[carries + k] == x) return *part = k, true;
    for (int k = 0; k < h->n_ys; k++)
        if (h->ys[k] == x) return *part = ys + k, true;
    if (carries + ys + h->n_ys >= DAN_MAX_OUT) return false;
    h->ys[h->n_ys] = x;
    *part = ys + h->n_ys++;
    return true;
}

static int look(const struct dan_graph *g, struct state *s, dan_ref i, struct dan_err *e)
{
    const struct dan_node *n = &g->node[i];
    struct hoist *h = &s->hoist[s->n];
    int32_t *uses = dan_calloc((size_t)n->body->n, sizeof *uses);
    if (!uses) return dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    dan_count_uses(n->body, uses);
    *h = (struct hoist){.scan = i};
    for (int k = 0; k < carries_of(n) && n->n_in <= MAX_IN; k++) {
        struct leave l;
        if (!match(n->body, uses, k, &l)) continue;
        const char *why = read_elsewhere(g, s, i, k);
        if (!why && (!find_part(n, h, l.x, &l.part_x) || (l.y && !find_part(n, h, l.y, &l.part_y))))
            why = "the scan would have more than 12 results";
        if (why) dan_not_fused(s->o, g, (const dan_ref[]){i, 0}, "%s", why);
        else h->leave[h->n++] = l;
    }
    dan_free(uses);
    if (!h->n) return DAN_OK;
    dan_fused(s->o, g, (const dan_ref[]){i, 0});
    s->of[i] = ++s->n;
    return DAN_OK;
}

/* ---- rewriting ------------------------------------------------------------------------------ */

static const struct leave *leaves(const struct hoist *h, int carry)
{
    for (int k = 0; k < h->n; k++)
        if (h->leave[k].carry == carry) return &h->leave[k];
    return NULL;
}

static bool goes(const struct hoist *h, dan_ref r)
{
    for (int k = 0; k < h->n; k++)
        if (r == h->leave[k].add || r == h->leave[k].grad || r == 1 + h->leave[k].carry) return true;
    return false;
}

static const struct dan_graph *slim_body(struct dan_builder *outer, const struct dan_node *scan, const struct hoist *h)
{
    const struct dan_graph *body = scan->body;
    struct dan_builder b;
    dan_ref *map = dan_arena_alloc(outer->g->arena, sizeof *map * (size_t)body->n);
    dan_builder_init(&b, dan_graph_new_in(outer->g->arena));
    if (!b.g || !map) return NULL;
    map[0] = 0;
    for (dan_ref i = 1; i < body->n && !b.err.code; i++) {
        const struct dan_node *n = &body->node[i];
        dan_ref in[MAX_IN];
        if (goes(h, i)) continue;
        for (int k = 0; k < n->n_in && k < MAX_IN; k++) in[k] = map[n->in[k]];
        if (n->n_in > MAX_IN) return NULL;
        map[i] = n->op->props & DAN_OP_LEAF ? dan_input(&b, n->name, n->dtype, n->shape, 0)
                                            : dan_emit_body(&b, n->op, in, n->n_in, n->attr, DAN_MAX_ATTR, n->body);
    }
    for (int k = 0; k < body->n_out; k++)
        if (k >= carries_of(scan) || !leaves(h, k)) dan_output(&b, body->out_name[k], map[body->out[k]]);
    for (int k = 0; k < h->n_ys; k++) dan_output(&b, "stacked", map[h->ys[k]]);
    return dan_builder_check(&b, &outer->err) ? NULL : b.g;
}

static dan_ref emit_scan(struct dan_rewrite *r, struct hoist *h)
{
    const struct dan_node *n = &r->old->node[h->scan];
    int carries = carries_of(n), ys = (int)n->attr[DAN_SCAN_YS].i, kept = 0, n_in = 0;
    dan_ref in[MAX_IN];
    for (int k = 0; k < n->n_in; k++) {
        if (k < carries && leaves(h, k)) continue;
        if (k < carries) h->part_of[k] = kept++;
        in[n_in++] = r->map[n->in[k]];
    }
    for (int k = 0; k < ys; k++) h->part_of[carries + k] = kept + k;
    for (int k = 0; k < h->n; k++) h->leave[k].part_x += kept, h->leave[k].part_y += kept;
    const struct dan_graph *body = slim_body(&r->b, n, h);
    if (!body) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory to move a gradient out of a scan");
    return h->now = dan_scan(&r->b, body, in, n_in, kept, (int)n->attr[DAN_SCAN_XS].i, ys + h->n_ys, n->attr[DAN_SCAN_REVERSE].i);
}

/* All steps of a part as rows: [T, B, n] -> [T*B, n] */
static dan_ref rows_of(struct dan_rewrite *r, const struct hoist *h, int32_t part)
{
    return dan_merge_dims(&r->b, dan_pick(&r->b, h->now, part), 0);
}

/* init + the sum over all steps */
static dan_ref emit_sum(struct dan_rewrite *r, const struct hoist *h, const struct leave *l)
{
    const struct dan_node *scan = &r->old->node[h->scan], *g = &scan->body->node[l->grad];
    const struct dan_node *init = &r->old->node[scan->in[l->carry]];
    dan_ref x = rows_of(r, h, l->part_x), in[] = {x, l->y ? rows_of(r, h, l->part_y) : 0, 0, 0};
    dan_ref sum = l->y ? dan_emit(&r->b, g->op, in, 4, g->attr, DAN_MAX_ATTR) : dan_sum(&r->b, x, 0);
    bool zero = dan_op_is(init, "fill_like") && init->attr[DAN_FILL_VALUE].f == 0;
    return zero ? sum : dan_add(&r->b, r->map[scan->in[l->carry]], sum);
}

/* The hoist whose history node i shows: pick, slice of it, merge_dims of that; *l: the carry that leaves, or NULL. */
static struct hoist *shown(const struct dan_rewrite *r, const struct state *s, dan_ref i, const struct leave **l, int *depth)
{
    const struct dan_node *n = &r->old->node[i];
    *depth = 0;
    if (dan_op_is(n, "merge_dims")) n = &r->old->node[n->in[0]], *depth = 2;
    if (dan_op_is(n, "slice")) n = &r->old->node[n->in[0]], *depth = *depth ? *depth : 1;
    else if (*depth) return NULL;
    if (!dan_op_is(n, "pick") || !s->of[n->in[0]]) return NULL;
    struct hoist *h = &s->hoist[s->of[n->in[0]] - 1];
    *l = n->attr[DAN_PICK_INDEX].i < carries_of(&r->old->node[h->scan]) ? leaves(h, (int)n->attr[DAN_PICK_INDEX].i) : NULL;
    return h;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct leave *l = NULL;
    int depth;
    if (s->of[i]) return emit_scan(r, &s->hoist[s->of[i] - 1]);
    const struct hoist *h = shown(r, s, i, &l, &depth);
    if (!h) return DAN_KEEP;
    if (!l) return depth ? DAN_KEEP : dan_pick(&r->b, h->now, h->part_of[r->old->node[i].attr[DAN_PICK_INDEX].i]);
    return depth == 2 ? emit_sum(r, h, l) : DAN_DROP;
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n, scans = 0;
    for (dan_ref i = 1; i < g->n; i++) scans += dan_op_is(&g->node[i], "scan");
    if (!scans) return DAN_OK;
    struct state s = {dan_calloc(scans, sizeof *s.hoist), dan_calloc(n, sizeof *s.of), dan_calloc(n, sizeof *s.uses), 0, o};
    int rc = s.hoist && s.of && s.uses ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        for (dan_ref i = 1; i < g->n && !rc; i++)
            if (dan_op_is(&g->node[i], "scan")) rc = look(g, &s, i, e);
        if (!rc) rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.hoist);
    dan_free(s.of);
    dan_free(s.uses);
    return rc;
}

const struct dan_pass dan_pass_hoist_scan = {
    .name = "hoist_scan", .doc = "gradients of a scan's constants are summed by one product behind the loop", .run = run, .exact = DAN_E1,
    .needs = "a scan's carry that only adds up X^T Y or column sums, of which only the last value is read"};
