/* What must hold of every graph, and the structure hash (R7). */
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "graph/graph.h"
#include "op/attrs.h"

/* A copy whose shapes may change freely; shares everything that does not. */
static struct dan_graph *copy_for_infer(const struct dan_graph *g)
{
    struct dan_graph *c = dan_graph_new();
    if (!c) return NULL;
    struct dan_node *node = dan_arena_alloc(c->arena, sizeof *node * (size_t)g->n);
    if (!node) {
        dan_graph_free(c);
        return NULL;
    }
    memcpy(node, g->node, sizeof *node * (size_t)g->n);
    for (int32_t i = 1; i < g->n; i++) node[i].part = NULL;    /* infer makes its own */
    c->node = node;
    c->n = c->cap = g->n;
    return c;
}

static int same_out(const struct dan_node *a, const struct dan_node *b)
{
    if (a->n_out != b->n_out || a->dtype != b->dtype || !dan_shape_equal(&a->shape, &b->shape)) return 0;
    for (int i = 0; a->n_out > 1 && i < a->n_out; i++)
        if (a->part[i].dtype != b->part[i].dtype || !dan_shape_equal(&a->part[i].shape, &b->part[i].shape)) return 0;
    return 1;
}

static int check_edges(const struct dan_graph *g, int32_t i, struct dan_err *e)
{
    const struct dan_node *n = &g->node[i];
    const char *where = n->where ? n->where : "?";
    if (!n->op) return dan_fail(e, DAN_EINVAL, "node %%%d has no op", i);
    int required = n->op->n_in < 0 ? n->n_in : n->op->n_in - n->op->n_opt;
    if (n->op->n_in >= 0 && n->n_in != n->op->n_in && !(n->op->props & DAN_OP_LEAF))
        return dan_fail(e, DAN_EINVAL, "node %%%d '%s' has %d inputs, wants %d (built at %s)", i, n->op->name, n->n_in, n->op->n_in, where);
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0 || n->in[k] >= i || (n->in[k] == 0 && k < required))
            return dan_fail(e, DAN_EINVAL, "node %%%d '%s' reads %%%d, which is not before it (built at %s)", i, n->op->name, n->in[k],
                            where);
        if (n->in[k] && g->node[n->in[k]].n_out > 1 && strcmp(n->op->name, "pick"))
            return dan_fail(e, DAN_EINVAL, "node %%%d '%s' reads %%%d, which has %d parts: use pick", i, n->op->name, n->in[k],
                            g->node[n->in[k]].n_out);
    }
    return DAN_OK;
}

static dan_ref owner(const struct dan_graph *g, dan_ref r)
{
    int part;
    return dan_owner(g, r, &part);
}

/* Writes are in place, so nobody may read an older version of a state, or a view of one, after a newer one was written. */
static int check_states(const struct dan_graph *g, struct dan_err *e)
{
    int32_t *written_by = dan_calloc((size_t)g->n, sizeof *written_by);   /* version -> its overwriter */
    if (!written_by) return dan_fail(e, DAN_ENOMEM, "not enough memory to verify %d nodes", g->n);
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++) {
        const struct dan_node *n = &g->node[i];
        for (int k = 0; k < n->n_in && !rc; k++)
            if (n->in[k] && written_by[owner(g, n->in[k])])
                rc = dan_fail(e, DAN_EINVAL, "node %%%d '%s' reads a state version that node %%%d has overwritten", i, n->op->name,
                              written_by[owner(g, n->in[k])]);
        if (n->op->props & DAN_OP_STATE) written_by[owner(g, n->in[0])] = i;
    }
    dan_free(written_by);
    return rc;
}

/* What is stored as bf16 was computed here, is f32 by type and is not handed out. */
static int check_half(const struct dan_graph *g, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (n->half && n->op->props & (DAN_OP_LEAF | DAN_OP_VIEW | DAN_OP_STATE))
            return dan_fail(e, DAN_EINVAL, "node %%%d '%s' owns no memory and cannot be stored as bf16", i, n->op->name);
        for (int k = 0; k < n->n_out; k++)
            if (n->half >> k & 1 && (n->n_out > 1 ? n->part[k].dtype : n->dtype) != &dan_dtype_f32)
                return dan_fail(e, DAN_EINVAL, "part %d of node %%%d '%s' is not f32 and cannot be stored as bf16", k, i, n->op->name);
    }
    for (int32_t i = 0; i < g->n_out; i++)
        if (dan_stored(g, g->out[i], 0) == &dan_dtype_bf16 && g->node[g->out[i]].dtype == &dan_dtype_f32)
            return dan_fail(e, DAN_EINVAL, "output '%s' is stored as bf16; it must be f32", g->out_name[i]);
    return DAN_OK;
}

int dan_graph_verify(const struct dan_graph *g, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++) {
        int rc = check_edges(g, i, e);
        if (rc) return rc;
    }
    for (int32_t i = 0; i < g->n_out; i++)
        if (g->out[i] <= 0 || g->out[i] >= g->n) return dan_fail(e, DAN_EINVAL, "output '%s' does not exist", g->out_name[i]);
    struct dan_graph *c = copy_for_infer(g);
    if (!c) return dan_fail(e, DAN_ENOMEM, "not enough memory to verify %d nodes", g->n);
    int rc = dan_graph_infer(c, e);
    for (int32_t i = 1; i < g->n && !rc; i++)
        if (!same_out(&g->node[i], &c->node[i]))
            rc = dan_fail(e, DAN_ESHAPE, "node %%%d '%s' has another shape or type than its op infers", i, g->node[i].op->name);
    dan_graph_free(c);
    if (!rc) rc = check_half(g, e);
    return rc ? rc : check_states(g, e);
}

/* The same graph with every dynamic input one unit smaller: dims that move are dynamic. */
static struct dan_graph *shrunk(const struct dan_graph *g)
{
    struct dan_graph *c = copy_for_infer(g);
    if (!c) return NULL;
    for (int32_t i = 1; i < c->n; i++) {
        struct dan_node *n = &c->node[i];
        int64_t unit = dan_op_is(n, "input") ? n->attr[DAN_INPUT_DYNAMIC].i : 0;
        if (unit) n->shape.d[0] += n->shape.d[0] > unit ? -unit : unit;
    }
    struct dan_err e = {0};
    if (dan_graph_infer(c, &e)) {
        dan_graph_free(c);
        return NULL;
    }
    return c;
}

static uint64_t mix(uint64_t h, const void *p, size_t n) { return dan_hash(p, n, h); }

static uint64_t hash_shape(uint64_t h, const struct dan_shape *a, const struct dan_shape *b)
{
    h = mix(h, &a->n, sizeof a->n);
    for (int i = 0; i < a->n; i++) {
        int64_t d = a->d[i] == b->d[i] ? a->d[i] : -1;
        h = mix(h, &d, sizeof d);
    }
    return h;
}

static uint64_t hash_node(uint64_t h, const struct dan_node *n, const struct dan_node *s)
{
    h = mix(h, n->op->name, strlen(n->op->name));
    h = mix(h, n->in, sizeof *n->in * (size_t)n->n_in);
    h = mix(h, n->attr, sizeof n->attr);
    h = mix(h, n->dtype->name, strlen(n->dtype->name));
    h = mix(h, &n->half, sizeof n->half);
    if (n->op->props & DAN_OP_LEAF) h = mix(h, n->name, strlen(n->name));
    if (n->n_out == 1) h = hash_shape(h, &n->shape, &s->shape);
    for (int i = 0; n->n_out > 1 && i < n->n_out; i++) h = hash_shape(h, &n->part[i].shape, &s->part[i].shape);
    if (n->body) {
        uint64_t inner = dan_graph_hash(n->body);
        h = mix(h, &inner, sizeof inner);
    }
    return h;
}

uint64_t dan_graph_hash(const struct dan_graph *g)
{
    struct dan_graph *s = shrunk(g);
    if (!s) return 0;
    uint64_t h = 0x64616e6c75;
    for (int32_t i = 1; i < g->n; i++) h = hash_node(h, &g->node[i], &s->node[i]);
    for (int32_t i = 0; i < g->n_out; i++) {
        h = mix(h, &g->out[i], sizeof g->out[i]);
        h = mix(h, g->out_name[i], strlen(g->out_name[i]));
    }
    dan_graph_free(s);
    return h;
}
