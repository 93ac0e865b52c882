/* Graph and builder: appending nodes, poison, leaves, looks. */
#include "graph/graph.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"

struct dan_graph *dan_graph_new_in(struct dan_arena *a)
{
    struct dan_graph *g = dan_arena_alloc(a, sizeof *g);
    if (!g) return NULL;
    g->arena = a;
    g->cap = 256;
    g->node = dan_arena_alloc(a, sizeof *g->node * (size_t)g->cap);
    if (!g->node) return NULL;
    g->node[0].layer = -1;
    g->n = 1;
    return g;
}

struct dan_graph *dan_graph_new(void)
{
    struct dan_arena *a = dan_arena_new();
    struct dan_graph *g = a ? dan_graph_new_in(a) : NULL;
    if (!g) dan_arena_free(a);
    return g;
}

void dan_graph_free(struct dan_graph *g)
{
    if (g) dan_arena_free(g->arena);
}

void dan_builder_init(struct dan_builder *b, struct dan_graph *g)
{
    memset(b, 0, sizeof *b);
    b->g = g;
    b->layer = -1;
}

int dan_builder_check(const struct dan_builder *b, struct dan_err *e)
{
    return b->err.code ? dan_fail(e, b->err.code, "%s", b->err.msg) : DAN_OK;
}

dan_ref dan_poison(struct dan_builder *b, int code, const char *fmt, ...)
{
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (b->where)
        dan_fail(&b->err, code, "%s (built at %s)", msg, b->where);
    else
        dan_fail(&b->err, code, "%s", msg);
    return 0;
}

/* The arena cannot grow an array in place: double it, leave the old one to the arena. */
static bool reserve(struct dan_graph *g)
{
    if (g->n < g->cap) return true;
    struct dan_node *bigger = dan_arena_alloc(g->arena, sizeof *bigger * (size_t)g->cap * 2);
    if (!bigger) return false;
    memcpy(bigger, g->node, sizeof *bigger * (size_t)g->n);
    g->node = bigger;
    g->cap *= 2;
    return true;
}

static dan_ref append(struct dan_builder *b, const struct dan_node *n)
{
    if (!reserve(b->g)) return dan_poison(b, DAN_ENOMEM, "not enough memory for a graph of %d nodes", b->g->n);
    b->g->node[b->g->n] = *n;
    return b->g->n++;
}

static dan_ref *copy_inputs(struct dan_builder *b, const struct dan_op *op, const dan_ref *in, int n_in, int n_total)
{
    dan_ref *copy = dan_arena_alloc(b->g->arena, sizeof *copy * (size_t)(n_total ? n_total : 1));
    if (!copy) {
        dan_poison(b, DAN_ENOMEM, "not enough memory for the inputs of '%s'", op->name);
        return NULL;
    }
    for (int i = 0; i < n_in; i++) copy[i] = in[i];
    return copy;
}

/* Of a node that was inferred. */
static bool fits(const struct dan_node *n)
{
    bool ok = n->n_out > 1 || dan_shape_fits(&n->shape);
    for (int i = 0; i < n->n_out && n->n_out > 1; i++) ok = ok && dan_shape_fits(&n->part[i].shape);
    return ok;
}

static dan_ref too_large(struct dan_builder *b, const char *what)
{
    return dan_poison(b, DAN_ESHAPE, "the shape of '%s' is negative or has 2^48 elements and more: are the sizes in config.json right?", what);
}

dan_ref dan_emit_body(struct dan_builder *b, const struct dan_op *op, const dan_ref *in, int n_in,
                      const union dan_attr *attr, int n_attr, const struct dan_graph *body)
{
    if (b->err.code) return 0;
    int n_total = op->n_in < 0 ? n_in : op->n_in;
    if (n_in > n_total) return dan_poison(b, DAN_EINVAL, "'%s' takes %d inputs, got %d", op->name, n_total, n_in);
    for (int i = 0; i < n_total - op->n_opt; i++)
        if (i >= n_in || in[i] <= 0 || in[i] >= b->g->n)
            return dan_poison(b, DAN_EINVAL, "input %d of '%s' is missing", i, op->name);
    for (int i = n_total - op->n_opt; i < n_in; i++)
        if (in[i] < 0 || in[i] >= b->g->n) return dan_poison(b, DAN_EINVAL, "optional input %d of '%s' does not exist", i, op->name);
    struct dan_node n = {.op = op, .where = b->where, .layer = b->layer, .n_in = n_total, .n_out = 1, .body = body};
    n.in = copy_inputs(b, op, in, n_in, n_total);
    if (!n.in) return 0;
    for (int i = 0; i < n_attr && i < DAN_MAX_ATTR; i++) n.attr[i] = attr[i];
    if (b->scope[0]) n.name = dan_arena_strdup(b->g->arena, b->scope);     /* NULL when memory is out: only for reading */
    struct dan_err e = {0};
    if (op->infer(b->g, &n, &e)) return dan_poison(b, e.code ? e.code : DAN_ESHAPE, "%s", e.msg);
    return fits(&n) ? append(b, &n) : too_large(b, op->name);
}

dan_ref dan_emit(struct dan_builder *b, const struct dan_op *op, const dan_ref *in, int n_in, const union dan_attr *attr, int n_attr)
{
    return dan_emit_body(b, op, in, n_in, attr, n_attr, NULL);
}

static dan_ref leaf(struct dan_builder *b, const struct dan_op *op, const char *name, const struct dan_dtype *t, struct dan_shape s)
{
    if (b->err.code) return 0;
    if (!dan_shape_fits(&s)) return too_large(b, name);
    dan_ref old = dan_leaf(b->g, name);
    if (old) {
        if (b->g->node[old].op == op && b->g->node[old].dtype == t && dan_shape_equal(&b->g->node[old].shape, &s)) return old;
        return dan_poison(b, DAN_EINVAL, "the name '%s' is used twice with different shapes, types or kinds", name);
    }
    struct dan_node n = {.op = op, .dtype = t, .shape = s, .where = b->where, .layer = b->layer, .n_out = 1};
    n.name = dan_arena_strdup(b->g->arena, name);
    if (!n.name) return dan_poison(b, DAN_ENOMEM, "not enough memory for the name '%s'", name);
    return append(b, &n);
}

/* The scope's name of a param or state, of any length: fuse_horizontal joins up to six. */
static dan_ref scoped_leaf(struct dan_builder *b, const struct dan_op *op, const char *name, const struct dan_dtype *t, struct dan_shape s)
{
    if (b->err.code || !b->scope[0]) return leaf(b, op, name, t, s);
    const char *full = dan_arena_printf(b->g->arena, "%s%s", b->scope, name);
    return full ? leaf(b, op, full, t, s) : dan_poison(b, DAN_ENOMEM, "not enough memory for the name '%s'", name);
}

dan_ref dan_input(struct dan_builder *b, const char *name, const struct dan_dtype *t, struct dan_shape s, int64_t dynamic)
{
    dan_ref r = leaf(b, &dan_op_input, name, t, s);
    if (r) b->g->node[r].attr[DAN_INPUT_DYNAMIC].i = dynamic;
    return r;
}

dan_ref dan_param(struct dan_builder *b, const char *name, const struct dan_dtype *t, struct dan_shape s, const char *init)
{
    dan_ref r = scoped_leaf(b, &dan_op_param, name, t, s);
    if (!r || b->g->node[r].init) return r;
    b->g->node[r].init = dan_arena_strdup(b->g->arena, init);
    return b->g->node[r].init ? r : dan_poison(b, DAN_ENOMEM, "not enough memory for the param '%s'", name);
}

dan_ref dan_state(struct dan_builder *b, const char *name, const struct dan_dtype *t, struct dan_shape s)
{
    return scoped_leaf(b, &dan_op_state, name, t, s);
}

dan_ref dan_pick(struct dan_builder *b, dan_ref x, int i)
{
    if (b->err.code) return 0;
    if (x > 0 && x < b->g->n && b->g->node[x].n_out == 1 && i == 0) return x;
    return dan_emit(b, &dan_op_pick, &x, 1, &DAN_I(i), 1);
}

void dan_output(struct dan_builder *b, const char *name, dan_ref x)
{
    struct dan_graph *g = b->g;
    if (b->err.code) return;
    if (x <= 0 || x >= g->n) {
        dan_poison(b, DAN_EINVAL, "output '%s' does not exist", name);
        return;
    }
    if (g->n_out == g->out_cap) {
        int cap = g->out_cap ? g->out_cap * 2 : 16;
        dan_ref *out = dan_arena_alloc(g->arena, sizeof *out * (size_t)cap);
        const char **names = dan_arena_alloc(g->arena, sizeof *names * (size_t)cap);
        if (!out || !names) {
            dan_poison(b, DAN_ENOMEM, "not enough memory for %d outputs", cap);
            return;
        }
        if (g->n_out) memcpy(out, g->out, sizeof *out * (size_t)g->n_out);
        if (g->n_out) memcpy(names, g->out_name, sizeof *names * (size_t)g->n_out);
        g->out = out;
        g->out_name = names;
        g->out_cap = cap;
    }
    char *copy = dan_arena_strdup(g->arena, name);
    if (!copy) {
        dan_poison(b, DAN_ENOMEM, "not enough memory for output '%s'", name);
        return;
    }
    g->out[g->n_out] = x;
    g->out_name[g->n_out++] = copy;
}

void dan_scope(struct dan_builder *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b->scope, sizeof b->scope, fmt, ap);
    va_end(ap);
    int layer;
    b->layer = sscanf(b->scope, "blk.%d.", &layer) == 1 ? layer : -1;
}

const struct dan_shape *dan_shape_at(const struct dan_builder *b, dan_ref r) { return &b->g->node[r].shape; }

dan_ref dan_leaf(const struct dan_graph *g, const char *name)
{
    for (int32_t i = 1; i < g->n; i++)
        if (g->node[i].op->props & DAN_OP_LEAF && strcmp(g->node[i].name, name) == 0) return i;
    return 0;
}

dan_ref dan_output_ref(const struct dan_graph *g, const char *name)
{
    for (int32_t i = 0; i < g->n_out; i++)
        if (strcmp(g->out_name[i], name) == 0) return g->out[i];
    return 0;
}

bool dan_op_is(const struct dan_node *n, const char *op_name) { return n->op && strcmp(n->op->name, op_name) == 0; }

static int find_op(const char *name)
{
    for (int i = 0; dan_ops[i]; i++)
        if (strcmp(dan_ops[i]->name, name) == 0) return i;
    return -1;
}

const struct dan_op *dan_op_find(const char *name)
{
    int i = find_op(name);
    return i < 0 ? NULL : dan_ops[i];
}

const struct dan_op *dan_op_f64(const struct dan_op *op)
{
    int i = find_op(op->name);
    return i < 0 ? NULL : dan_ops64[i];
}

dan_ref dan_owner(const struct dan_graph *g, dan_ref r, int *part)
{
    *part = 0;
    for (; r && (dan_op_is(&g->node[r], "pick") || g->node[r].op->props & DAN_OP_VIEW); r = g->node[r].in[0])
        *part = dan_op_is(&g->node[r], "pick") ? (int)g->node[r].attr[DAN_PICK_INDEX].i : 0;
    return r;
}

const struct dan_dtype *dan_stored(const struct dan_graph *g, dan_ref r, int k)
{
    int part = 0;
    dan_ref o = dan_owner(g, r, &part);
    const struct dan_node *n = &g->node[o];
    if (o != r) k = part;
    if (n->half >> k & 1) return &dan_dtype_bf16;
    return n->n_out > 1 ? n->part[k].dtype : n->dtype;
}

int dan_graph_infer(struct dan_graph *g, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++) {
        struct dan_node *n = &g->node[i];
        if (n->op->props & DAN_OP_LEAF) continue;
        int rc = n->op->infer(g, n, e);
        if (rc) return rc;
    }
    return DAN_OK;
}
