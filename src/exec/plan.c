/* Memory: every unit gets a place in one arena so that units alive at the same time do not
 * overlap.  Largest first, lowest fitting offset (as XNNPACK and tinygrad do): within a few
 * percent of the lower bound on transformer graphs, O(n^2) on a few thousand units. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "exec/program.h"
#include "op/attrs.h"

static int32_t input_unit(const struct dan_program *p, dan_ref r) { return p->first_unit[r]; }

static int32_t root_of(const struct dan_program *p, int32_t u)
{
    while (p->unit[u].root != u) u = p->unit[u].root;
    return u;
}

/* pick is its part; a view is its input; a state write is its state. */
static void link_views(struct dan_program *p)
{
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *n = &p->g.node[i];
        int32_t u = p->first_unit[i];
        if (dan_op_is(n, "pick")) {
            p->unit[u].kind = UNIT_VIEW;
            p->unit[u].root = input_unit(p, n->in[0]) + (int32_t)n->attr[DAN_PICK_INDEX].i;
        } else if (n->op->props & DAN_OP_VIEW) {
            for (int k = 0; k < n->n_out; k++) {
                p->unit[u + k].kind = UNIT_VIEW;
                p->unit[u + k].root = input_unit(p, n->in[0]);
            }
        } else if (n->op->props & DAN_OP_STATE) {
            p->unit[u].kind = UNIT_VIEW;
            p->unit[u].root = input_unit(p, n->in[0]);
        }
    }
}

static void extend(struct dan_program *p, int32_t u, int32_t until)
{
    u = root_of(p, u);
    if (p->unit[u].last < until) p->unit[u].last = until;
}

static void find_lifetimes(struct dan_program *p)
{
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *n = &p->g.node[i];
        if (dan_op_is(n, "pick")) continue;    /* a pick extends only its part, by its readers */
        int n_read = n->n_in - !!(n->op->props & DAN_OP_LIKE);
        for (int k = 0; k < n_read; k++)
            if (n->in[k]) extend(p, input_unit(p, n->in[k]), i);
    }
    for (int32_t i = 0; i < p->g.n_out; i++) extend(p, input_unit(p, p->g.out[i]), INT32_MAX);
}

/* Part of a concat's output: strided, and not free when its own readers are done. */
static bool shows_placed(const struct dan_program *p, int32_t u)
{
    while (p->unit[u].root != u && p->unit[u].kind != UNIT_PLACED) u = p->unit[u].root;
    return p->unit[u].kind == UNIT_PLACED;
}

/* An op that may write over its first input does so when that dies here. */
static void link_in_place(struct dan_program *p)
{
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *n = &p->g.node[i];
        if (!(n->op->props & DAN_OP_INPLACE) || n->n_out != 1 || !n->in[0]) continue;
        int32_t out = p->first_unit[i], in = input_unit(p, n->in[0]), root = root_of(p, in);
        const struct dan_node *m = &p->g.node[n->in[0]];
        if (dan_op_is(m, "pick")) m = &p->g.node[m->in[0]];    /* part of a split: a strided view, too */
        if (m->op->props & DAN_OP_VIEW || p->unit[root].kind != UNIT_ARENA || p->unit[root].last != i) continue;
        if (p->unit[out].kind != UNIT_ARENA || shows_placed(p, in)) continue;
        if (p->unit[in].t.dtype != p->unit[out].t.dtype || !dan_shape_equal(&p->unit[in].t.shape, &p->unit[out].t.shape)) continue;
        /* Another input in the same memory: x op x is safe only where out[i] needs nothing but x[i]. */
        bool twice = false, alone = n->op->props & DAN_OP_ELEMENTWISE;
        for (int k = 1; k < n->n_in; k++)
            twice = twice || (n->in[k] && root_of(p, input_unit(p, n->in[k])) == root && !(alone && n->in[k] == n->in[0]));
        if (twice) continue;
        int32_t last = p->unit[out].last;
        p->unit[out].root = root;
        p->unit[out].kind = UNIT_VIEW;
        extend(p, root, last);
    }
}

static void find_bytes(struct dan_program *p)
{
    for (int32_t u = 0; u < p->n_units; u++) {
        struct unit *x = &p->unit[u];
        if (x->part >= 0) x->bytes = dan_tensor_bytes(&x->t);
        x->bytes = (x->bytes + 127) & ~(size_t)63;      /* one line of slack: vector loads may run over the end */
    }
}

struct order { size_t bytes; int32_t unit; };
static int larger_first(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

static bool overlap_in_time(const struct unit *a, const struct unit *b) { return a->first <= b->last && b->first <= a->last; }

/* placed[] is sorted by offset: the first gap that fits. */
static size_t lowest_fit(const struct dan_program *p, const int32_t *placed, int32_t n, const struct unit *x)
{
    size_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct unit *y = &p->unit[placed[i]];
        if (!overlap_in_time(x, y)) continue;
        if (at + x->bytes <= y->offset) return at;
        if (at < y->offset + y->bytes) at = y->offset + y->bytes;
    }
    return at;
}

static size_t place_all(struct dan_program *p, struct order *order, int32_t n, int32_t *placed)
{
    size_t top = 0;
    for (int32_t i = 0; i < n; i++) {
        struct unit *x = &p->unit[order[i].unit];
        x->offset = lowest_fit(p, placed, i, x);
        if (top < x->offset + x->bytes) top = x->offset + x->bytes;
        int32_t k = i;
        for (; k > 0 && p->unit[placed[k - 1]].offset > x->offset; k--) placed[k] = placed[k - 1];
        placed[k] = order[i].unit;
    }
    return top;
}

int dan_program_plan(struct dan_program *p, struct dan_err *e)
{
    link_views(p);
    find_lifetimes(p);
    link_in_place(p);
    find_bytes(p);
    size_t n_max = (size_t)p->n_units;
    struct order *order = dan_malloc(sizeof *order * (n_max ? n_max : 1));
    int32_t *placed = dan_malloc(sizeof *placed * (n_max ? n_max : 1)), n = 0;
    if (!order || !placed) {
        dan_free(order);
        dan_free(placed);
        return dan_fail(e, DAN_ENOMEM, "not enough memory to plan %d tensors", p->n_units);
    }
    for (int32_t u = 0; u < p->n_units; u++)
        if (p->unit[u].kind == UNIT_ARENA && p->unit[u].root == u) order[n++] = (struct order){p->unit[u].bytes, u};
    qsort(order, (size_t)n, sizeof *order, larger_first);
    p->memory_bytes = place_all(p, order, n, placed);
    dan_free(order);
    dan_free(placed);
    if (p->opts.plan_only) return DAN_OK;
    p->memory = p->memory_bytes ? dan_huge_alloc(p->memory_bytes) : NULL;
    if (p->memory_bytes && !p->memory)
        return dan_fail(e, DAN_ENOMEM, "not enough memory for %.1f MiB of activations; use a smaller batch or context, or --remat",
                        (double)p->memory_bytes / (1 << 20));
    return DAN_OK;
}
