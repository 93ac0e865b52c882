/* Graph -> program: units, steps, kernels, memory. */
#include <limits.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "exec/program.h"
#include "op/ops.h"

static void *need(struct dan_program *p, size_t n, struct dan_err *e)
{
    void *m = dan_arena_alloc(p->arena, n ? n : 1);
    if (!m) dan_fail(e, DAN_ENOMEM, "not enough memory to compile a graph of %d nodes", p->g.n);
    return m;
}

static int copy_nodes(struct dan_program *p, const struct dan_graph *g, struct dan_err *e)
{
    p->g = *g;
    p->g.arena = p->arena;
    p->g.node = need(p, sizeof *g->node * (size_t)g->n, e);
    if (!p->g.node) return DAN_ENOMEM;
    memcpy(p->g.node, g->node, sizeof *g->node * (size_t)g->n);
    for (int32_t i = 1; i < g->n; i++) {
        struct dan_node *n = &p->g.node[i];
        if (!n->part) continue;
        struct dan_out *part = need(p, sizeof *part * (size_t)n->n_out, e);
        if (!part) return DAN_ENOMEM;
        memcpy(part, n->part, sizeof *part * (size_t)n->n_out);
        n->part = part;
    }
    return DAN_OK;
}

static int make_units(struct dan_program *p, struct dan_err *e)
{
    int32_t n = 0;
    for (int32_t i = 1; i < p->g.n; i++) n += p->g.node[i].n_out;
    p->n_units = 0;
    p->unit = need(p, sizeof *p->unit * (size_t)(n + p->g.n), e);          /* room for one workspace unit a node */
    p->first_unit = need(p, sizeof *p->first_unit * (size_t)p->g.n, e);
    if (!p->unit || !p->first_unit) return DAN_ENOMEM;
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *node = &p->g.node[i];
        p->first_unit[i] = p->n_units;
        for (int32_t k = 0; k < node->n_out; k++) {
            struct unit *u = &p->unit[p->n_units];
            *u = (struct unit){.node = i, .part = k, .root = p->n_units, .first = i, .last = i};
            u->t.dtype = dan_stored(&p->g, i, k);
            u->t.shape = node->n_out > 1 ? node->part[k].shape : node->shape;
            u->kind = node->op->props & DAN_OP_LEAF ? UNIT_LEAF : UNIT_ARENA;
            p->n_units++;
        }
    }
    return DAN_OK;
}

static bool moves_no_data(const struct dan_program *p, dan_ref r)
{
    const struct dan_node *n = &p->g.node[r];
    return dan_node_placed(p, r) || n->op->props & (DAN_OP_LEAF | DAN_OP_VIEW) || dan_op_is(n, "pick");
}

/* One step per node that computes; inputs and outputs as arrays that refresh fills. */
static int make_step(struct dan_program *p, dan_ref r, struct dan_err *e)
{
    struct step *s = &p->step[p->n_steps];
    const struct dan_node *n = &p->g.node[r];
    s->node = r;
    s->in = need(p, sizeof *s->in * (size_t)n->n_in, e);
    s->out = need(p, sizeof *s->out * (size_t)n->n_out, e);
    s->in_unit = need(p, sizeof *s->in_unit * (size_t)n->n_in, e);
    if (!s->in || !s->out || !s->in_unit) return DAN_ENOMEM;
    for (int i = 0; i < n->n_in; i++) s->in_unit[i] = n->in[i] ? p->first_unit[n->in[i]] : -1;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && dan_op_is(&p->g.node[n->in[i]], "pick"))
            s->in_unit[i] = p->first_unit[n->in[i]];
    s->out_unit = p->first_unit[r];
    s->ws_unit = -1;
    s->args = (struct dan_args){.in = s->in, .out = s->out, .attr = n->attr, .pool = p->opts.pool, .n_in = n->n_in, .n_out = n->n_out};
    for (int i = 0; i < n->n_in; i++)
        if (s->in_unit[i] >= 0) s->in[i] = p->unit[s->in_unit[i]].t;
    for (int i = 0; i < n->n_out; i++) s->out[i] = p->unit[s->out_unit + i].t;
    p->n_steps++;
    if (dan_op_is(n, "chain")) return dan_chain_compile(p, s, dan_pool_size(p->opts.pool), e);
    if (n->body) {
        struct dan_exec_opts o = p->opts;
        o.trace = NULL;
        o.pack = false;                        /* what a body multiplies by is bound anew by every run */
        return dan_compile(n->body, &o, &s->body, e);
    }
    return dan_program_select(p, s, e);
}

/* The declared maximum strides, so that kernels' accepts() and workspace() see real shapes. */
static void declare_strides(struct dan_program *p)
{
    for (int32_t i = 0; i < p->n_units; i++) p->unit[i].t = dan_tensor_of(p->unit[i].t.dtype, p->unit[i].t.shape, NULL);
    for (int32_t i = 0; i < p->n_units; i++)
        if (p->unit[i].kind == UNIT_PLACED) dan_unit_show_placed(p, &p->unit[i]);
}

static int add_workspace(struct dan_program *p, struct step *s)
{
    int nth = p->opts.plan_only && p->opts.plan_threads > 0 ? p->opts.plan_threads : dan_pool_size(p->opts.pool);
    size_t bytes = dan_step_workspace(p, s, nth);
    if (!bytes) return 0;
    s->ws_unit = p->n_units;
    p->unit[p->n_units] = (struct unit){.node = s->node, .part = -1, .root = p->n_units, .first = s->node, .last = s->node, .bytes = bytes};
    p->n_units++;
    return 0;
}

int dan_compile(const struct dan_graph *g, const struct dan_exec_opts *o, struct dan_program **out, struct dan_err *e)
{
    struct dan_arena *a = dan_arena_new();
    struct dan_program *p = a ? dan_arena_alloc(a, sizeof *p) : NULL;
    if (!p) {
        dan_arena_free(a);
        return dan_fail(e, DAN_ENOMEM, "not enough memory to compile a graph");
    }
    p->arena = a;
    p->source = g;
    if (o) p->opts = *o;
    p->cpu = dan_cpu_features();               /* cpuid traps in virtual machines: ask once */
    if (p->opts.cpu_mask) p->cpu &= p->opts.cpu_mask;
    int rc = copy_nodes(p, g, e);
    if (!rc) rc = make_units(p, e);
    if (!rc) dan_program_place(p);
    if (!rc) declare_strides(p);
    if (!rc && !(p->step = need(p, sizeof *p->step * (size_t)g->n, e))) rc = DAN_ENOMEM;
    for (int32_t i = 1; i < g->n && !rc; i++)
        if (!moves_no_data(p, i)) rc = make_step(p, i, e);
    for (int32_t i = 0; i < p->n_steps && !rc; i++) add_workspace(p, &p->step[i]);
    if (!rc) rc = dan_program_plan(p, e);
    if (rc) {
        dan_program_free(p);
        return rc;
    }
    p->dirty_data = true;
    *out = p;
    return DAN_OK;
}

void dan_program_free(struct dan_program *p)
{
    if (!p) return;
    for (int32_t i = 0; i < p->n_steps; i++) dan_program_free(p->step[i].body);
    dan_program_unpack(p);
    if (p->memory) dan_huge_free(p->memory, p->memory_bytes);
    dan_arena_free(p->arena);
}

size_t dan_program_bytes(const struct dan_program *p)
{
    size_t n = p->memory_bytes;
    for (int32_t i = 0; i < p->n_steps; i++)
        if (p->step[i].body) n += dan_program_bytes(p->step[i].body);
    return n;
}

int64_t dan_program_infers(const struct dan_program *p) { return p->infers; }
