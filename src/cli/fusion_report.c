/* Joining the graph without fusion and the graph with it through the origins of their nodes. */
#include "cli/fusion_report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "exec/exec.h"
#include "op/attrs.h"
#include "op/ops.h"

bool fusion_computes(const struct dan_node *n) { return !(n->op->props & (DAN_OP_LEAF | DAN_OP_VIEW)) && !dan_op_is(n, "pick"); }

const char *fusion_rule_name(const struct dan_pass *p) { return p->name + (dan_str_starts(p->name, "fuse_") ? 5 : 0); }

bool fusion_in_pipeline(const struct fusion_report *r, const struct dan_pass *p)
{
    size_t n = strlen(p->name);
    for (const char *s = r->m.pipeline; *s; s += strcspn(s, ","), s += *s == ',')
        if (strcspn(s, ",") == n && !memcmp(s, p->name, n)) return true;
    return false;
}

static int pass_index(const struct dan_pass *p)
{
    int i = 0;
    while (dan_passes[i] && dan_passes[i] != p) i++;
    return i;
}

/* ---- names --------------------------------------------------------------------------------- */

/* "attn_q" of "blk.3.attn_q.weight". */
static void put_param(const char *name, struct dan_str *s)
{
    if (strncmp(name, "blk.", 4) == 0) name += 4 + strcspn(name + 4, ".") + 1;
    size_t n = dan_str_ends(name, ".weight") ? strlen(name) - 7 : strlen(name);
    dan_str_append(s, name, n);
}

static const char *param_of(const struct dan_graph *g, const struct dan_node *n)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] && dan_op_is(&g->node[n->in[k]], "param")) return g->node[n->in[k]].name;
    return NULL;
}

static void put_origin(const struct dan_graph *g, dan_ref from, struct dan_str *s)
{
    static const char *const act[DAN_N_ACTS] = {[DAN_ACT_NONE] = "none", [DAN_ACT_RELU] = "relu", [DAN_ACT_GELU] = "gelu",
                                                [DAN_ACT_GELU_TANH] = "gelu_tanh", [DAN_ACT_SILU] = "silu",
                                                [DAN_ACT_TANH] = "tanh", [DAN_ACT_SIGMOID] = "sigmoid"};
    const struct dan_node *n = &g->node[abs(from)];
    const char *param = n->op->props & DAN_OP_LEAF ? n->name : param_of(g, n);
    int64_t kind = dan_op_is(n, "act") ? n->attr[0].i : 0;
    dan_str_puts(s, from < 0 ? "d " : "");
    if (param) put_param(param, s);
    else dan_str_puts(s, kind > 0 && kind < DAN_N_ACTS && act[kind] ? act[kind] : n->op->name);
}

/* The names of what computes among `from`, or of all when nothing does; the first MOST of them. */
const char *fusion_names(struct fusion_report *r, const dan_ref *from)
{
    enum { MOST = 8 };
    struct dan_str s = {0};
    bool computes = false;
    int n = 0;
    for (const dan_ref *f = from; *f; f++) computes = computes || fusion_computes(&r->built->node[abs(*f)]);
    for (const dan_ref *f = from; *f; f++) {
        if (computes && !fusion_computes(&r->built->node[abs(*f)])) continue;
        if (n < MOST && n) dan_str_puts(&s, ", ");
        if (n < MOST) put_origin(r->built, *f, &s);
        n++;
    }
    if (n > MOST) dan_str_printf(&s, ", %d more", n - MOST);
    const char *copy = s.failed ? NULL : dan_arena_strdup(r->cli->arena, dan_str_c(&s));
    dan_str_release(&s);
    r->failed = r->failed || !copy;
    return copy ? copy : "";
}

/* "matmul, 2 add" of the nodes of group `of` in graph k; kernels instead of ops when they are known. */
static const char *ops_of(struct fusion_report *r, int k, int32_t of, const char **kernel)
{
    struct dan_str s = {0};
    const struct dan_graph *g = r->g[k];
    for (int32_t i = 1; i < g->n; i++) {
        int times = 0;
        const char *name = r->group_of[k][i] == of ? (kernel ? kernel[i] : g->node[i].op->name) : NULL;
        for (int32_t j = 1; j < g->n && name; j++) {
            const char *other = r->group_of[k][j] == of ? (kernel ? kernel[j] : g->node[j].op->name) : NULL;
            if (!other || strcmp(other, name)) continue;
            if (j < i) break;                  /* counted at its first */
            times++;
        }
        if (times > 1) dan_str_printf(&s, "%s%d %s", s.n ? ", " : "", times, name);
        else if (times) dan_str_printf(&s, "%s%s", s.n ? ", " : "", name);
    }
    const char *copy = s.failed ? NULL : dan_arena_strdup(r->cli->arena, dan_str_c(&s));
    dan_str_release(&s);
    r->failed = r->failed || !copy;
    return copy ? copy : "";
}

/* ---- notes of the rules -------------------------------------------------------------------- */

static const dan_ref *origins_of(struct fusion_report *r, const struct dan_fusion_note *n)
{
    size_t count = 0, before;
    const dan_ref *first = n->node;
    while (n->rule->alone && first[1]) first++;
    for (const dan_ref *x = first; *x; x++)
        for (const dan_ref *o = n->g->node[*x].origin; o && *o; o++) count++;
    dan_ref *all = dan_arena_alloc(r->cli->arena, sizeof *all * (count + 1)), *to = all;
    for (const dan_ref *x = first; *x && all; x++) {
        before = (size_t)(to - all);
        for (const dan_ref *o = n->g->node[*x].origin; o && *o; o++)
            if (*o > 0) *to++ = *o;
        if (before < (size_t)(to - all)) continue;     /* a forward node that a gradient was folded into */
        for (const dan_ref *o = n->g->node[*x].origin; o && *o; o++) *to++ = *o;
    }
    return all;
}

static bool alike(const struct fusion_note *a, const struct fusion_note *b)
{
    return a->rule == b->rule && a->backward == b->backward && (a->layer < 0) == (b->layer < 0) && !strcmp(a->what, b->what) &&
           !strcmp(a->why, b->why);
}

static void add_note(struct fusion_report *r, struct fusion_note n)
{
    for (int32_t i = 0; i < r->n_notes; i++)
        if (alike(&r->note[i], &n)) {
            r->note[i].last_layer = n.layer;
            r->note[i].times++;
            return;
        }
    size_t cap = (size_t)r->cap_notes;
    if (dan_vec_grow(&r->note, &cap, (size_t)r->n_notes + 1, sizeof *r->note)) r->failed = true;
    else r->note[r->n_notes++] = n;
    r->cap_notes = (int32_t)cap;
}

static void add_place(struct fusion_report *r, const struct dan_pass *rule, const dan_ref *from, bool forward)
{
    size_t cap = (size_t)r->cap_places;
    if (dan_vec_grow(&r->place, &cap, (size_t)r->n_places + 1, sizeof *r->place)) {
        r->failed = true;
        return;
    }
    r->cap_places = (int32_t)cap;
    r->place[r->n_places].rule = rule;
    r->place[r->n_places].forward = forward;
    r->place[r->n_places++].from = from;
    if (pass_index(rule) < 64) r->fused[pass_index(rule)]++;
}

static void hear(void *ctx, const struct dan_fusion_note *n)
{
    struct fusion_report *r = ctx;
    const dan_ref *from = origins_of(r, n);
    if (!from || r->failed) {
        r->failed = true;
        return;
    }
    if (!n->why_not) {
        add_place(r, n->rule, from, n->g->n_forward == 0);
        return;
    }
    int32_t layer = n->g->node[*n->node].layer;
    const char *why = dan_arena_strdup(r->cli->arena, n->why_not);
    r->failed = r->failed || !why;
    if (why) add_note(r, (struct fusion_note){n->rule, fusion_names(r, from), why, layer, layer, 1, *from < 0});
}

/* ---- groups: connected origins ------------------------------------------------------------- */

/* Union-find over origins; -i lies at n - 1 - i, i at n - 1 + i. */
struct sets { int32_t *up, n; bool *weak; };    /* weak: what it stands for was dropped in favour of another node */

static int32_t root(struct sets *s, int32_t i)
{
    while (s->up[i] != i) i = s->up[i] = s->up[s->up[i]];
    return i;
}

static int32_t at(const struct sets *s, dan_ref from) { return from + s->n - 1; }

/* The origin that says where a node belongs: a weak one only when there is no other. */
static dan_ref main_origin(const struct sets *s, const dan_ref *from)
{
    const dan_ref *f = from;
    while (f && *f && s->weak[at(s, *f)]) f++;
    return f && *f ? *f : from ? *from : 0;
}

static void unite(struct sets *s, const dan_ref *from)
{
    dan_ref first = main_origin(s, from);
    if (!first) return;
    int32_t a = root(s, at(s, first));
    bool weak = s->weak[at(s, first)];
    for (; *from; from++)
        if (weak || !s->weak[at(s, *from)]) s->up[root(s, at(s, *from))] = a;
}

static void unite_graph(struct sets *s, const struct dan_graph *g)
{
    for (int32_t i = 1; i < g->n; i++)
        if (fusion_computes(&g->node[i])) unite(s, g->node[i].origin);
}

/* Numbers the groups in the order of the graph without fusion and gives every node its own. */
static void number_groups(struct fusion_report *r, struct sets *s, int32_t *number)
{
    memset(number, -1, sizeof *number * (size_t)(2 * s->n));
    for (int k = 0; k < 2; k++)
        for (int32_t i = 1; i < r->g[k]->n; i++) {
            const struct dan_node *n = &r->g[k]->node[i];
            r->group_of[k][i] = -1;
            if (!fusion_computes(n) || !main_origin(s, n->origin)) continue;
            int32_t *mine = &number[root(s, at(s, main_origin(s, n->origin)))];
            if (*mine < 0) *mine = r->n_groups++;
            r->group_of[k][i] = *mine;
        }
}

static void list_origins(struct fusion_report *r, struct sets *s, const int32_t *number)
{
    int32_t *n = dan_arena_alloc(r->cli->arena, sizeof *n * (size_t)(r->n_groups + 1));
    for (int32_t i = 0; i < 2 * s->n - 1 && n; i++)
        if (number[root(s, i)] >= 0) n[number[root(s, i)]]++;
    for (int32_t k = 0; k < r->n_groups && n; k++)
        if (!(r->group[k].from = dan_arena_alloc(r->cli->arena, sizeof(dan_ref) * (size_t)(n[k] + 1)))) n = NULL;
    for (int32_t i = 0, k; i < 2 * s->n - 1 && n; i++) {
        if (i == s->n - 1 || (k = number[root(s, i)]) < 0) continue;
        dan_ref *list = (dan_ref *)(uintptr_t)r->group[k].from;
        while (*list) list++;
        *list = i - (s->n - 1);
    }
    r->failed = r->failed || !n;
}

static void apply_rule(struct fusion_report *r, const struct dan_pass *p, int32_t group)
{
    int k = pass_index(p);
    if (group < 0 || k >= 64) return;
    struct fusion_group *q = &r->group[group];
    enum dan_exactness c = dan_exactness_of(p, *q->from < 0, r->o.train && !strcmp(r->o.dtype, "bf16"));
    q->rules |= (uint64_t)1 << k;
    if (c > q->exact) q->exact = c;
}

/* What was fused before autodiff has its gradient fused, too. */
static void apply_rules(struct fusion_report *r, struct sets *s, const int32_t *number)
{
    for (int32_t i = 0; i < r->n_places; i++) {
        for (const dan_ref *f = r->place[i].from; *f; f++) {
            apply_rule(r, r->place[i].rule, number[root(s, at(s, *f))]);
            if (r->place[i].forward && *f > 0) apply_rule(r, r->place[i].rule, number[root(s, at(s, -*f))]);
            if (r->place[i].rule->alone) break;
        }
    }
}

static double bytes_of(const struct dan_graph *g, dan_ref x)
{
    const struct dan_node *n = &g->node[x];
    return x ? (double)dan_dtype_bytes(dan_stored(g, x, 0), dan_shape_count(&n->shape)) : 0;
}

/* Of weights, and of outputs (gradients): a run goes through all of them once. */
static double swept_bytes(const struct dan_graph *g)
{
    double sum = 0;
    for (int32_t i = 1; i < g->n; i++) sum += dan_op_is(&g->node[i], "param") ? bytes_of(g, i) : 0;
    for (int32_t i = 0; i < g->n_out; i++) sum += bytes_of(g, g->out[i]);
    return sum;
}

static bool is_swept(const struct dan_graph *g, dan_ref x)
{
    bool out = dan_op_is(&g->node[x], "param");
    for (int32_t i = 0; i < g->n_out && !out; i++) out = g->out[i] == x;
    return out;
}

/* Attention's cost counts every key that there is room for; a row sees its own sequence, on average half of it when it
 * looks back, and no more keys are read than there are rows. */
static void correct_attention(const struct fusion_report *r, const struct dan_graph *g, const struct dan_node *n, struct dan_work *w)
{
    double context = (double)(r->m.context < r->o.rows ? r->m.context : r->o.rows), keys = (double)g->node[n->in[1]].shape.d[0];
    w->flops *= (r->m.causal ? (context + 1) / 2 : context) / keys;
    if (keys > (double)r->o.rows) w->read -= (bytes_of(g, n->in[1]) + bytes_of(g, n->in[2])) * (1 - (double)r->o.rows / keys);
}

/* A write into a state moves its rows, not the state. */
static void correct_write(const struct dan_graph *g, const struct dan_node *n, struct dan_work *w)
{
    w->read = w->write = 0;
    for (int k = 1; k < n->n_in; k++) {
        double bytes = bytes_of(g, n->in[k]);
        w->read += bytes;
        if (bytes > w->write) w->write = bytes;
    }
}

/* The work of node i as it is in a run: what is swept comes from where all that is swept fits, not this node's part alone. */
static struct dan_work work_of(const struct fusion_report *r, const struct dan_graph *g, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    struct dan_work w = dan_node_work(g, i);
    if (dan_op_is(n, "attend") || dan_op_is(n, "attend_grad")) correct_attention(r, g, n, &w);
    if (n->op->props & DAN_OP_STATE) correct_write(g, n, &w);
    double swept = is_swept(g, i) ? w.write : 0;
    for (int k = 0; k < n->n_in; k++) swept += n->in[k] && is_swept(g, n->in[k]) ? bytes_of(g, n->in[k]) : 0;
    if (swept > (w.read + w.write) / 2) w.footprint = swept_bytes(g);
    return w;
}

static void add_cost(struct fusion_report *r, int k, dan_ref i)
{
    struct fusion_cost *c = &r->group[r->group_of[k][i]].cost[k];
    struct dan_work w = work_of(r, r->g[k], i);
    c->n++;
    c->flops += w.flops;
    c->bytes += w.read + w.write + w.update;
    if (!r->o.profile) return;
    struct dan_bound b = dan_machine_bound(&r->machine, &w, r->threads);
    double seconds = r->seconds[k][i];
    if (!c->binds || b.seconds > c->top) c->binds = b.binds;
    if (b.seconds > c->top) c->top = b.seconds;
    c->seconds += seconds;
    c->least += b.seconds;
}

static dan_ref last_of(const dan_ref *from)
{
    while (from[1]) from++;
    return *from;
}

static void describe(struct fusion_report *r)
{
    for (int k = 0; k < 2; k++)
        for (int32_t i = 1; i < r->g[k]->n; i++)
            if (r->group_of[k][i] >= 0) add_cost(r, k, i);
    for (int32_t i = 0; i < r->n_groups; i++) {
        struct fusion_group *q = &r->group[i];
        q->what = fusion_names(r, q->from);
        for (int k = 0; k < 2; k++) q->made[k] = ops_of(r, k, i, NULL);
        if (r->o.profile) q->kernels = ops_of(r, 1, i, r->kernel[1]);
        q->backward = last_of(q->from) < 0;
        q->layer = q->last_layer = r->built->node[abs(*q->from)].layer;
        q->times = 1;
        q->order = i;
    }
}

static int join(struct fusion_report *r, struct dan_err *e)
{
    struct sets s = {.n = r->built->n};
    int32_t *number = dan_arena_alloc(r->cli->arena, sizeof *number * 2 * (size_t)s.n);
    s.up = dan_arena_alloc(r->cli->arena, sizeof *s.up * 2 * (size_t)s.n);
    s.weak = dan_arena_alloc(r->cli->arena, 2 * (size_t)s.n);
    if (!number || !s.up || !s.weak) return dan_fail(e, DAN_ENOMEM, "not enough memory for a report of %d nodes", s.n);
    for (int32_t i = 0; i < 2 * s.n; i++) s.up[i] = i;
    for (int32_t i = 0; i < r->n_places; i++)
        for (const dan_ref *f = r->place[i].from; *f && r->place[i].rule->alone; f++) s.weak[at(&s, *f)] = true;
    for (int k = 0; k < 2; k++) unite_graph(&s, r->g[k]);
    for (int32_t i = 0; i < r->n_places; i++) unite(&s, r->place[i].from);
    number_groups(r, &s, number);
    r->group = dan_arena_alloc(r->cli->arena, sizeof *r->group * (size_t)(r->n_groups + 1));
    if (!r->group) return dan_fail(e, DAN_ENOMEM, "not enough memory for a report of %d groups", r->n_groups);
    list_origins(r, &s, number);
    if (!r->failed) apply_rules(r, &s, number);
    if (!r->failed) describe(r);
    return r->failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the report") : DAN_OK;
}

/* ---- the report ---------------------------------------------------------------------------- */

static int build(struct fusion_report *r, struct dan_err *e)
{
    const struct fusion_subject *m = &r->m;
    struct dan_exec_choice choice = dan_exec_choice_of(&(struct dan_exec_opts){.cpu_mask = dan_isa_mask(r->cli->isa)});
    struct dan_pass_opts o = {.loss = "loss", .prec = strcmp(r->o.dtype, "bf16") ? DAN_PREC_F32 : DAN_PREC_BF16, .fusion = "off",
                              .rounds = dan_exec_rounds, .rounds_ctx = &choice};
    int rc = m->graph(m->model, &r->o, "", &o, &r->built, e);
    if (!rc) rc = m->graph(m->model, &r->o, m->pipeline, &o, &r->g[0], e);
    o.fusion = r->o.fusion;
    o.note = hear;
    o.note_ctx = r;
    if (!rc) rc = m->graph(m->model, &r->o, m->pipeline, &o, &r->g[1], e);
    for (int k = 0; k < 2 && !rc; k++) {
        size_t n = (size_t)r->g[k]->n;
        r->group_of[k] = dan_arena_alloc(r->cli->arena, sizeof *r->group_of[k] * n);
        r->seconds[k] = dan_arena_alloc(r->cli->arena, sizeof *r->seconds[k] * n);
        r->kernel[k] = dan_arena_alloc(r->cli->arena, sizeof *r->kernel[k] * n);
        if (!r->group_of[k] || !r->seconds[k] || !r->kernel[k]) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the report");
    }
    return rc;
}

static int measure(struct fusion_report *r, struct dan_err *e)
{
    struct dan_pool *pool = NULL;
    int rc = dan_pool_new((int)r->cli->threads, &pool, e);
    r->threads = rc ? 1 : dan_pool_size(pool);
    if (!rc) rc = dan_machine_measure(&(struct dan_machine_opts){.pool = pool, .cpu_mask = dan_isa_mask(r->cli->isa)}, &r->machine, e);
    if (!rc) rc = fusion_measure(r, pool, e);
    dan_pool_free(pool);
    return rc;
}

int fusion_report(struct dan_cli *cli, const struct fusion_subject *m, const struct fusion_opts *o, struct fusion_report *r,
                  struct dan_err *e)
{
    *r = (struct fusion_report){.cli = cli, .m = *m, .o = *o};
    int rc = dan_fusion_check(o->fusion, e);
    if (!rc) rc = build(r, e);
    if (!rc && o->profile) rc = measure(r, e);
    return rc ? rc : join(r, e);
}

void fusion_release(struct fusion_report *r)
{
    dan_graph_free(r->built);
    for (int k = 0; k < 2; k++) dan_graph_free(r->g[k]);
    dan_free(r->note);
    dan_free(r->place);
}

struct fusion_cost fusion_total(const struct fusion_report *r, int k)
{
    struct fusion_cost t = {0};
    for (int32_t i = 0; i < r->n_groups; i++) {
        const struct fusion_cost *c = &r->group[i].cost[k];
        t.seconds += c->seconds;
        t.flops += c->flops;
        t.bytes += c->bytes;
        t.least += c->least;
        t.n += c->n;
    }
    return t;
}

const char *fusion_rules(const struct fusion_report *r, const struct fusion_group *g)
{
    struct dan_str s = {0};
    for (int k = 0; dan_passes[k] && k < 64; k++)
        if (g->rules >> k & 1) dan_str_printf(&s, "%s%s", s.n ? ", " : "", fusion_rule_name(dan_passes[k]));
    const char *copy = dan_arena_strdup(r->cli->arena, dan_str_c(&s));
    dan_str_release(&s);
    return copy ? copy : "";
}

/* ---- layers that are alike ----------------------------------------------------------------- */

static bool same_group(const struct fusion_group *a, const struct fusion_group *b)
{
    return (a->layer < 0) == (b->layer < 0) && a->rules == b->rules && a->backward == b->backward && !strcmp(a->what, b->what) &&
           !strcmp(a->made[0], b->made[0]) && !strcmp(a->made[1], b->made[1]);
}

static void merge(struct fusion_group *a, const struct fusion_group *b)
{
    if (b->layer > a->last_layer) a->last_layer = b->layer;
    if (b->layer < a->layer) a->layer = b->layer;
    a->times++;
    for (int k = 0; k < 2; k++) {
        a->cost[k].seconds += b->cost[k].seconds;
        a->cost[k].flops += b->cost[k].flops;
        a->cost[k].bytes += b->cost[k].bytes;
        a->cost[k].least += b->cost[k].least;
        a->cost[k].n += b->cost[k].n;
    }
}

struct fusion_group *fusion_merged(const struct fusion_report *r, int32_t *n)
{
    struct fusion_group *all = dan_arena_alloc(r->cli->arena, sizeof *all * (size_t)(r->n_groups + 1));
    *n = 0;
    for (int32_t i = 0, j; i < r->n_groups && all; i++) {
        for (j = 0; j < *n && !same_group(&all[j], &r->group[i]); j++) continue;
        if (j < *n) merge(&all[j], &r->group[i]);
        else all[(*n)++] = r->group[i];
    }
    return all;
}
