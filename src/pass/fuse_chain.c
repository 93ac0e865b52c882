/* Pointwise ops that read each other become one `chain`: a tree of any length, with biases, scalars, masks and dropout,
 * in one pass over memory instead of one each.  Forward, backward, and in the bodies of scans (the gates of a GRU are
 * eleven ops).  Each op runs with its own kernel on rows that stay in L1: exact (E0).
 *
 * A group grows along its edges in the order of the graph and is emitted where its last member stands, so nobody
 * outside may read a member before that; members that somebody outside reads become outputs. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "op/chain.h"
#include "op/ops.h"
#include "pass/bodies.h"

enum { MAX_MEMBERS = 64, MAX_INPUTS = 60 };
struct group { dan_ref member[MAX_MEMBERS]; int32_t n; };          /* ascending */
struct state {
    struct group *group;                       /* from 1 on */
    int32_t *of, n;                            /* of[node] = its group, 0: none */
    const int32_t *uses;
    dan_ref waiting[MAX_MEMBERS], value[MAX_MEMBERS];      /* values of a chain that nobody may see yet */
    int32_t n_waiting;
};

/* ---- what may be a member ------------------------------------------------------------------ */

static bool is_fill(const struct dan_node *n) { return dan_op_is(n, "fill_like"); }

/* Input k of member n is read row by row, or is one row, or (a dropout's seed) small. */
static bool fits(const struct dan_graph *g, const struct dan_node *n, int k)
{
    const struct dan_node *x = &g->node[n->in[k]];
    int64_t cols = n->shape.d[n->shape.n - 1];
    if (x->shape.n < 1 || x->dtype->block != 1) return false;
    int64_t last = x->shape.d[x->shape.n - 1];
    if (dan_op_is(n, "dropout") && k == 1) return x->shape.n == 1;
    if (last != cols && last != 1) return false;
    return dan_chain_per_row(&x->shape, &n->shape) || dan_shape_count(&x->shape) == last;
}

static bool pointwise(const struct dan_graph *g, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    if (!(n->op->props & DAN_OP_ELEMENTWISE || dan_op_is(n, "dropout") || is_fill(n)) || dan_op_is(n, "chain")) return false;
    if (n->n_out != 1 || n->n_in > 4 || n->shape.n < 2 || (n->dtype != &dan_dtype_f32 && n->dtype != &dan_dtype_f64)) return false;
    for (int k = 0; k < n->n_in && !is_fill(n); k++)
        if (!n->in[k] || !fits(g, n, k)) return false;
    return true;
}

/* ---- groups -------------------------------------------------------------------------------- */

static bool reads_group(const struct dan_graph *g, const struct state *s, dan_ref j, int32_t a, int32_t b)
{
    const struct dan_node *n = &g->node[j];
    for (int k = 0; k < n->n_in; k++) {
        int32_t of = s->of[n->in[k]];
        if (of && (of == a || of == b)) return true;
    }
    return false;
}

/* Whether group a, with b and node i, may be emitted at i. */
static bool joins(const struct dan_graph *g, const struct state *s, int32_t a, int32_t b, dan_ref i)
{
    const struct group *x = &s->group[a], *y = &s->group[b];
    const struct dan_node *one = &g->node[x->member[0]], *more = &g->node[i];
    int32_t n = x->n + (b == a ? 0 : y->n), from = x->member[0] < y->member[0] ? x->member[0] : y->member[0];
    if (n >= MAX_MEMBERS || !dan_shape_equal(&one->shape, &more->shape) || one->dtype != more->dtype) return false;
    for (dan_ref j = from + 1; j < i; j++)
        if (s->of[j] != a && s->of[j] != b && reads_group(g, s, j, a, b)) return false;
    return true;
}

static void unite(struct state *s, int32_t a, int32_t b)
{
    struct group *x = &s->group[a], *y = &s->group[b], all = {.n = 0};
    int32_t i = 0, j = 0;
    while (i < x->n || j < y->n) {
        bool from_x = j == y->n || (i < x->n && x->member[i] < y->member[j]);
        all.member[all.n++] = from_x ? x->member[i++] : y->member[j++];
    }
    for (j = 0; j < y->n; j++) s->of[y->member[j]] = a;
    y->n = 0;
    *x = all;
}

/* Puts node i into a group of its inputs, uniting them where that is allowed, or into a new one. */
static void place(const struct dan_graph *g, struct state *s, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    int32_t mine = 0;
    for (int k = 0; k < n->n_in && !is_fill(n); k++) {
        int32_t of = s->of[n->in[k]];
        if (!of || of == mine || !joins(g, s, mine ? mine : of, of, i)) continue;
        if (mine) unite(s, mine, of);
        else mine = of;
    }
    if (!mine) mine = ++s->n;
    s->of[i] = mine;
    s->group[mine].member[s->group[mine].n++] = i;
}

/* ---- from a group to a chain --------------------------------------------------------------- */

struct build {
    const struct dan_graph *g;
    const struct state *s;
    const struct group *q;
    dan_ref in[MAX_INPUTS], out[DAN_MAX_OUT];
    int32_t n_in, n_out, of;
};

static void add_input(struct build *c, dan_ref x, bool first)
{
    for (int32_t i = 0; i < c->n_in; i++)
        if (c->in[i] == x) return;
    if (c->n_in == MAX_INPUTS) {
        c->n_in++;                             /* too many: measure says so */
        return;
    }
    if (c->n_in > MAX_INPUTS) return;
    if (first) memmove(c->in + 1, c->in, sizeof *c->in * (size_t)c->n_in);
    c->in[first ? 0 : c->n_in] = x;
    c->n_in++;
}

/* The first input tells the rows; one that dies here may be written over. */
static void add_inputs(struct build *c)
{
    const struct dan_shape *shape = &c->g->node[c->q->member[0]].shape;
    bool found = false, dies = false;
    for (int32_t i = 0; i < c->q->n; i++) {
        const struct dan_node *n = &c->g->node[c->q->member[i]];
        for (int k = 0; k < n->n_in && !is_fill(n); k++) {
            const struct dan_node *x = &c->g->node[n->in[k]];
            if (c->s->of[n->in[k]] == c->of) continue;
            bool full = dan_shape_equal(&x->shape, shape) && x->dtype == n->dtype;
            bool mortal = full && c->s->uses[n->in[k]] == 1 && !(x->op->props & (DAN_OP_LEAF | DAN_OP_VIEW)) && !dan_op_is(x, "pick");
            add_input(c, n->in[k], (full && !found) || (mortal && !dies));
            found = found || full;
            dies = dies || mortal;
        }
    }
    if (!found) c->n_in = 0;
}

static bool read_outside(const struct build *c, dan_ref m)
{
    int32_t inside = 0;
    for (int32_t i = 0; i < c->q->n; i++) {
        const struct dan_node *n = &c->g->node[c->q->member[i]];
        for (int k = 0; k < n->n_in; k++) inside += n->in[k] == m;
    }
    return c->s->uses[m] > inside;
}

/* NULL, or why the group stays as it is.  Fills in what the chain reads and gives. */
static const char *measure(struct build *c)
{
    int32_t computing = 0;
    for (int32_t i = 0; i < c->q->n; i++) {
        dan_ref m = c->q->member[i];
        computing += !is_fill(&c->g->node[m]);
        if (!read_outside(c, m)) continue;
        if (c->n_out == DAN_MAX_OUT) return "more than 12 of its values are read elsewhere";
        c->out[c->n_out++] = m;
    }
    add_inputs(c);
    if (!c->n_in) return "no input has the shape of the result";
    if (c->n_in > MAX_INPUTS) return "it reads more than 60 values";
    return computing == 0 || c->q->n < 2 || c->n_out == 0 ? "" : NULL;
}

static dan_ref body_input(struct dan_builder *b, const struct dan_node *x, int i)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", i);
    return dan_input(b, name, x->dtype, DAN_SHAPE(x->shape.d[x->shape.n - 1]), 0);
}

static const struct dan_graph *make_body(const struct build *c, struct dan_builder *outer)
{
    struct dan_builder b;
    dan_ref row[MAX_MEMBERS], input[MAX_INPUTS];
    dan_builder_init(&b, dan_graph_new_in(outer->g->arena));
    if (!b.g) return NULL;
    for (int32_t i = 0; i < c->n_in; i++) input[i] = body_input(&b, &c->g->node[c->in[i]], i);
    for (int32_t i = 0; i < c->q->n; i++) {
        const struct dan_node *n = &c->g->node[c->q->member[i]];
        dan_ref in[4];
        for (int k = 0; k < n->n_in; k++) {
            in[k] = input[0];                  /* a fill's likeness */
            for (int32_t j = 0; j < c->n_in && !is_fill(n); j++) in[k] = c->in[j] == n->in[k] ? input[j] : in[k];
            for (int32_t j = 0; j < i && !is_fill(n); j++) in[k] = c->q->member[j] == n->in[k] ? row[j] : in[k];
        }
        row[i] = dan_emit(&b, n->op, in, n->n_in, n->attr, DAN_MAX_ATTR);
        for (int32_t k = 0; k < c->n_out; k++)
            if (c->out[k] == c->q->member[i]) dan_output(&b, "y", row[i]);
    }
    return dan_builder_check(&b, &outer->err) ? NULL : b.g;
}

static struct build open_group(const struct dan_graph *g, const struct state *s, int32_t of)
{
    return (struct build){.g = g, .s = s, .q = &s->group[of], .of = of};
}

/* Emits the chain; its values are seen by those who come after (the origins of the members follow from that). */
static dan_ref emit(struct dan_rewrite *r, struct state *s, int32_t of)
{
    struct build c = open_group(r->old, s, of);
    if (measure(&c)) return DAN_KEEP;
    dan_ref in[MAX_INPUTS], mine = 0;
    for (int32_t i = 0; i < c.n_in; i++) in[i] = r->map[c.in[i]];
    const struct dan_graph *body = make_body(&c, &r->b);
    dan_ref y = body ? dan_chain(&r->b, body, in, c.n_in) : dan_poison(&r->b, DAN_ENOMEM, "not enough memory for a chain");
    dan_ref last = c.q->member[c.q->n - 1];
    for (int32_t k = 0; k < c.n_out; k++) {
        dan_ref value = dan_pick(&r->b, y, k);
        if (c.out[k] == last) {
            mine = value;
            continue;
        }
        s->waiting[s->n_waiting] = c.out[k];
        s->value[s->n_waiting++] = value;
    }
    return mine ? mine : DAN_DROP;
}

static void settle(struct dan_rewrite *r, struct state *s)
{
    for (int32_t k = 0; k < s->n_waiting; k++) r->map[s->waiting[k]] = s->value[k];
    s->n_waiting = 0;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    settle(r, s);
    int32_t of = s->of[i];
    if (!of) return DAN_KEEP;
    if (s->group[of].member[s->group[of].n - 1] != i) return DAN_DROP;
    dan_ref y = emit(r, s, of);
    if (i == r->old->n - 1) settle(r, s);
    return y;
}

static void find(const struct dan_graph *g, struct state *s, const struct dan_pass_opts *o)
{
    for (int32_t i = 1; i < g->n; i++)
        if (pointwise(g, i)) place(g, s, i);
    for (int32_t k = 1; k <= s->n; k++) {
        struct build c = open_group(g, s, k);
        if (!c.q->n) continue;
        dan_ref nodes[MAX_MEMBERS + 1] = {0};
        const char *why = measure(&c);
        memcpy(nodes, c.q->member, sizeof *nodes * (size_t)c.q->n);
        if (!why) dan_fused(o, g, nodes);
        if (why && *why) dan_not_fused(o, g, nodes, "%s", why);
        for (int32_t i = 0; why && i < c.q->n; i++) s->of[c.q->member[i]] = 0;
    }
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct state s = {.group = dan_calloc((size_t)g->n + 1, sizeof *s.group), .of = dan_calloc((size_t)g->n * 2, sizeof *s.of)};
    int rc = s.group && s.of ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        s.uses = s.of + g->n;
        dan_count_uses(g, s.of + g->n);
        find(g, &s, o);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.group);
    dan_free(s.of);
    return rc ? rc : dan_pass_bodies(g, o, e, run);
}

const struct dan_pass dan_pass_fuse_chain = {
    .name = "fuse_chain", .doc = "pointwise ops that read each other become one pass over memory", .run = run, .exact = DAN_E0,
    .needs = "two pointwise ops or more of one shape, none of whose values is read elsewhere before the last"};
